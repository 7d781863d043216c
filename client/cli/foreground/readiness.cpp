#include "client/cli/foreground/readiness.hpp"

#include <sys/epoll.h>

#include <cerrno>
#include <system_error>

namespace cleanfork::cli {

readiness::readiness(boost::asio::io_context& io, int fd, direction d) : epoll_(io) {
    const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0) throw std::system_error(errno, std::generic_category(), "epoll_create1");
    epoll_.assign(epoll);
    epoll_event event{};
    event.events = d == direction::read ? EPOLLIN : EPOLLOUT;
    always_ = ::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0;
}

}  // namespace cleanfork::cli
