// When a template that was ready once and has failed is started again: after a pause that
// doubles with each failure.
#pragma once

#include <chrono>
#include <optional>

namespace cleanfork::daemon {

class backoff {
public:
    using clock = std::chrono::steady_clock;

    // It has failed: the next start is a pause from `now`.
    void schedule(clock::time_point now) noexcept;
    // No start is to come, since one has begun or none is wanted.
    void cancel() noexcept { at_.reset(); }
    // It was well for a while: the next pause is the first one again.
    void forgive() noexcept { pause_ = {}; }

    [[nodiscard]] bool is_pending() const noexcept { return at_.has_value(); }
    [[nodiscard]] bool is_due(clock::time_point now) const noexcept { return at_ && *at_ <= now; }
    // At least 1 ms; needs is_pending().
    [[nodiscard]] std::chrono::milliseconds left(clock::time_point now) const;

private:
    std::optional<clock::time_point> at_;
    std::chrono::milliseconds pause_{};
};

}  // namespace cleanfork::daemon
