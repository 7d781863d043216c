#include "forkserver/daemon/loop/bounded_timer.hpp"

#include "forkserver/daemon/loop/boundary.hpp"

namespace cleanfork::daemon {

void bounded_timer::set(clock::time_point at) {
    if (at_ <= at) return;
    insist(loop_, place_, [&] { loop_.alarms_.emplace(at, this); });
    loop_.alarms_.erase({at_, this});
    at_ = at;
}

void bounded_timer::cancel() noexcept {
    loop_.alarms_.erase({at_, this});
    at_ = clock::time_point::max();
}

// What is called may end this object.
void bounded_timer::ring() {
    cancel();
    const std::function<void()> then = ring_;
    then();
}

}  // namespace cleanfork::daemon
