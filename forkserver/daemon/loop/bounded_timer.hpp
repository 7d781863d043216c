// The one timer of whoever has deadlines: armed for the earliest that it was asked for.
#pragma once

#include <chrono>
#include <functional>

#include "forkserver/daemon/loop/event_loop.hpp"

namespace cleanfork::daemon {

class bounded_timer {
public:
    using clock = event_loop::clock;

    // Calls `ring` inside the boundary of the loop; `place` names it in the log.
    bounded_timer(event_loop& loop, const char* place, std::function<void()> ring)
        : loop_(loop), place_(place), ring_(std::move(ring)) {}
    bounded_timer(const bounded_timer&) = delete;
    bounded_timer& operator=(const bounded_timer&) = delete;
    ~bounded_timer() { cancel(); }

    // Rings at that time or before: once for all that asked until then.
    void set(clock::time_point at);
    void set_in(clock::duration time) { set(clock::now() + time); }
    // Does not ring any more for those that asked so far.
    void cancel() noexcept;
    [[nodiscard]] bool is_set() const noexcept { return at_ != clock::time_point::max(); }

private:
    friend class event_loop;
    void ring();

    event_loop& loop_;
    const char* const place_;
    const std::function<void()> ring_;
    clock::time_point at_ = clock::time_point::max();
};

}  // namespace cleanfork::daemon
