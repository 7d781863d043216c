#include "client/src/connection/waiter.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

namespace cleanfork::detail {

// Both ways: a thread that has polled once waits on the condition variable when it has
// no descriptor left to poll.
void waiter::wake() noexcept {
    changed_.notify_one();
    const std::uint64_t one = 1;
    // Cannot fail: nobody wakes often enough to fill the counter.
    if (event_) [[maybe_unused]]
        const ssize_t n = ::write(event_.get(), &one, sizeof one);
}

void waiter::set_ready(const tables_lock&) noexcept {
    ready_ = true;
    wake();
}

void waiter::promote(const tables_lock&) noexcept {
    promoted_ = true;
    wake();
}

bool waiter::sleep(tables_lock& held, const deadline& d) {
    const auto woken = [this] { return ready_ || promoted_; };
    if (d) return held.wait_until(changed_, *d, woken);
    held.wait(changed_, woken);
    return true;
}

int waiter::event(const tables_lock&) {
    if (!event_) event_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    return event_.get();
}

void waiter::clear_event(const tables_lock&) noexcept {
    std::uint64_t count = 0;
    [[maybe_unused]] const ssize_t n = ::read(event_.get(), &count, sizeof count);
}

}  // namespace cleanfork::detail
