// Ends children whose session is over: their signal, their grace, then SIGKILL.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <utility>

#include "forkserver/daemon/children/child_table.hpp"
#include "ipc/base/features.hpp"

namespace cleanfork::daemon {

class lifetimes {
public:
    // `on_ended(id)`: nobody of this child's target is left; it may be forgotten.
    lifetimes(boost::asio::io_context& io, child_table& children, const ipc::feature_set& features,
              std::function<void(child_id)> on_ended);

    // Sends the lifetime's signal (SIGKILL at once with a grace of 0, or when
    // `at_once`). A child that is being ended already is only made to hurry.
    void end(child& c, bool at_once = false);

    // To be called when a child has exited: what is left of its group or cgroup
    // keeps its grace, and is over as soon as the last of it is.
    void child_exited(child& c);

    [[nodiscard]] bool idle() const noexcept { return ending_.empty(); }
    [[nodiscard]] bool ending(child_id id) const { return ending_.contains(id); }

    int signal(const child& c, int number, signal_target target) const;
    [[nodiscard]] bool anyone_left(const child& c) const;

private:
    using clock = std::chrono::steady_clock;
    void finish(child_id id);
    void look_after(child_id id);
    void arm_look();
    void look();
    void arm();
    void expire();

    struct ending_child {
        clock::time_point deadline;
        // SIGKILL was sent: the child's own exit is the end then, since what is left
        // of its group may be zombies of somebody who never reaps them.
        bool killed = false;
    };

    boost::asio::steady_timer timer_;
    child_table& children_;
    bool group_by_pidfd_;
    bool cgroup_kill_;
    std::function<void(child_id)> on_ended_;
    std::map<child_id, ending_child> ending_;
    std::set<std::pair<clock::time_point, child_id>> deadlines_;
    clock::time_point armed_for_ = clock::time_point::max();
    // Of the ending ones, those whose leader has exited while others of the group or
    // cgroup live: these are no children of ours, so that we must look for their end.
    std::set<child_id> leaderless_;
    boost::asio::steady_timer look_timer_;
    clock::duration look_interval_{};
};

}  // namespace cleanfork::daemon
