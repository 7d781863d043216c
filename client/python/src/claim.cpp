#include "client/python/src/claim.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>

#include "client/python/src/bind_errors.hpp"
#include "client/python/src/gil.hpp"

namespace cleanfork::python {

claim claim::made() {
    claim c;
    c.fd_.reset(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!c.fd_) raise({.step = step::prepare, .error_number = errno, .object = "eventfd"});
    return c;
}

std::optional<pid_t> claim::taker() const {
    if (!fd_) return std::nullopt;
    std::uint64_t count = take();
    if (count == 1) return std::nullopt;
    constexpr int k_patience_ms = 1000;
    const without_gil others_run;
    pollfd p{fd_.get(), POLLIN, 0};
    if (count == 0 && ::poll(&p, 1, k_patience_ms) == 1) count = take();
    return static_cast<pid_t>(count);
}

std::uint64_t claim::take() const {
    std::uint64_t count = 0;
    return ::read(fd_.get(), &count, sizeof count) == sizeof count ? count : 0;
}

}  // namespace cleanfork::python
