// When a child that has ended is started again, if at all: as systemd has it, with a delay that
// doubles.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>

#include <chrono>
#include <cleanfork/failure.hpp>
#include <deque>
#include <optional>

namespace cleanfork::daemon {

struct child_exit;

class restart_schedule {
public:
    using clock = std::chrono::steady_clock;

    // What cannot be meant by it; step::none: nothing.
    static failure refusal(const v1::Restart& r);
    explicit restart_schedule(const v1::Restart& r);

    void started(clock::time_point now);
    // The time of the next start; nullopt: it is over.
    std::optional<clock::time_point> ended(const child_exit& how, clock::time_point now);

    [[nodiscard]] v1::RestartPolicy policy() const noexcept { return policy_; }

private:
    using milliseconds = std::chrono::milliseconds;

    v1::RestartPolicy policy_;
    milliseconds first_delay_, most_delay_, interval_;
    std::size_t burst_;
    milliseconds delay_;                    // the next one
    std::deque<clock::time_point> starts_;  // the newest, as many as `burst_`
};

}  // namespace cleanfork::daemon
