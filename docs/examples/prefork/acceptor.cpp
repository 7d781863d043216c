#include "acceptor.hpp"

#include <dirent.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>

#include <cerrno>
#include <cstdlib>
#include <memory>
#include <system_error>
#include <utility>

namespace prefork {

namespace {

constexpr suseconds_t k_look_again_us = 100'000;

// The inodes of all sockets this process has open.
std::set<ino_t> open_sockets() {
    std::set<ino_t> found;
    const std::unique_ptr<DIR, int (*)(DIR*)> all(::opendir("/proc/self/fd"), &::closedir);
    if (!all) throw std::system_error(errno, std::system_category(), "/proc/self/fd");
    while (const dirent* e = ::readdir(all.get())) {
        struct stat s {};
        if (::fstat(std::atoi(e->d_name), &s) == 0 && S_ISSOCK(s.st_mode)) found.insert(s.st_ino);
    }
    return found;
}

}  // namespace

acceptor::acceptor(cleanfork::unique_fd listener, std::function<void(cleanfork::unique_fd)> take)
    : listener_(std::move(listener)), take_(std::move(take)) {
    // accept4() returns without one as often as that, so that it need not be woken.
    const timeval look_again{.tv_sec = 0, .tv_usec = k_look_again_us};
    if (::setsockopt(listener_.get(), SOL_SOCKET, SO_RCVTIMEO, &look_again, sizeof look_again) != 0)
        throw std::system_error(errno, std::system_category(), "SO_RCVTIMEO");
    thread_ = std::jthread([this](const std::stop_token& stopped) { run(stopped); });
}

void acceptor::accept_one() {
    cleanfork::unique_fd connection(
        ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!connection) return;
    const int on = 1;
    (void)::setsockopt(connection.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct stat s {};
    if (::fstat(connection.get(), &s) == 0) {
        const std::lock_guard lock(mutex_);
        connections_.insert(s.st_ino);
    }
    take_(std::move(connection));
}

// All workers block in accept4(): the kernel wakes them in turn, where of those that
// wait for an epoll set it would wake the same one again and again.
void acceptor::run(const std::stop_token& stopped) {
    while (!stopped.stop_requested()) accept_one();
}

bool acceptor::one_waits() const {
    pollfd waits{listener_.get(), POLLIN, 0};
    return ::poll(&waits, 1, 0) > 0;
}

void acceptor::stop() {
    if (!thread_.joinable()) return;
    thread_.request_stop();
    thread_.join();
    while (one_waits()) accept_one();
    listener_.reset();
}

std::size_t acceptor::open_connections() {
    // First the lock: one that is taken after the look must not be forgotten.
    const std::lock_guard lock(mutex_);
    const std::set<ino_t> now = open_sockets();
    std::erase_if(connections_, [&](ino_t i) { return !now.contains(i); });
    return connections_.size();
}

}  // namespace prefork
