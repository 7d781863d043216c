#include "forkserver/daemon/children/restart_schedule.hpp"

#include <sys/wait.h>

#include <algorithm>
#include <csignal>

#include "forkserver/daemon/children/child.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/limits.hpp"

namespace cleanfork::daemon {

namespace {

// SuccessExitStatus= of systemd.service(5): these signals are a clean end too.
bool failed(const child_exit& how) {
    if (!how.known) return true;
    if (WIFEXITED(how.wait_status)) return WEXITSTATUS(how.wait_status) != 0;
    const int by = WTERMSIG(how.wait_status);
    return by != SIGHUP && by != SIGINT && by != SIGTERM && by != SIGPIPE;
}

}  // namespace

failure restart_schedule::refusal(const v1::Restart& r) {
    const auto too_long = [](std::uint32_t ms) {
        return milliseconds(ms) > ipc::k_max_restart_time;
    };
    const char* why = nullptr;
    if (r.policy() < 0 || r.policy() > v1::RESTART_POLICY_ALWAYS)
        why = "unknown policy";
    else if (too_long(r.delay_ms()) || too_long(r.max_delay_ms()) || too_long(r.interval_ms()))
        why = "a delay or interval is at most a day";
    else if (r.burst() > ipc::k_max_restart_burst)
        why = "too many starts in an interval: 0 is for no limit";
    return why == nullptr ? failure() : ipc::fail(step::request, EINVAL, "restart", why);
}

restart_schedule::restart_schedule(const v1::Restart& r)
    : policy_(r.policy()),
      first_delay_(r.delay_ms()),
      most_delay_(std::max(r.max_delay_ms(), r.delay_ms())),
      interval_(r.interval_ms()),
      burst_(r.burst()),
      delay_(first_delay_) {}

void restart_schedule::started(clock::time_point now) {
    starts_.push_back(now);
    while (starts_.size() > std::max<std::size_t>(burst_, 1)) starts_.pop_front();
}

std::optional<restart_schedule::clock::time_point> restart_schedule::ended(const child_exit& how,
                                                                           clock::time_point now) {
    if (policy_ == v1::RESTART_POLICY_ON_FAILURE && !failed(how)) return std::nullopt;
    if (!starts_.empty() && now - starts_.back() >= interval_) delay_ = first_delay_;
    const auto next = now + delay_;
    const auto recent = std::count_if(starts_.begin(), starts_.end(),
                                      [&](clock::time_point t) { return next - t < interval_; });
    if (burst_ != 0 && static_cast<std::size_t>(recent) >= burst_) return std::nullopt;
    delay_ = std::min(delay_ * 2, most_delay_);
    return next;
}

}  // namespace cleanfork::daemon
