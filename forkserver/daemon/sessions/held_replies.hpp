// Replies to spawns that are held for a moment.
//
// A short-lived child's exit often comes sooner than its client could read the reply:
// sent together they cost one wake-up.
#pragma once

#include <chrono>
#include <deque>
#include <utility>

#include "forkserver/daemon/daemon_ids.hpp"
#include "forkserver/daemon/loop/bounded_timer.hpp"
#include "forkserver/daemon/loop/event_loop.hpp"

namespace cleanfork::daemon {

// What the held replies ask and tell their owner, who keeps the replies themselves.
class held_replies_owner {
public:
    [[nodiscard]] virtual bool is_held(child_id child) = 0;
    // It waited as long as it may. It is not held any more after this call.
    virtual void on_held_long_enough(child_id child) = 0;

protected:
    ~held_replies_owner() = default;
};

class held_replies {
public:
    held_replies(event_loop& io, held_replies_owner& owner)
        : alarm_(io, "held replies", [this] { expire(); }), owner_(owner) {}

    // One that is released earlier is simply not held any more.
    void hold(child_id child, std::chrono::microseconds longest);

private:
    using clock = std::chrono::steady_clock;
    void arm();
    void expire();

    bounded_timer alarm_;
    held_replies_owner& owner_;
    std::deque<std::pair<clock::time_point, child_id>> holds_;
};

}  // namespace cleanfork::daemon
