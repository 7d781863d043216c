// Ends children whose session is over: their signal, their grace, then SIGKILL.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <set>
#include <utility>

#include "forkserver/daemon/children/child_table.hpp"
#include "forkserver/daemon/children/signalling.hpp"
#include "ipc/base/features.hpp"

namespace cleanfork::daemon {

// What the lifetimes tell their owner.
class lifetimes_owner {
public:
    // Nobody of the child's target is left; it may be forgotten.
    virtual void on_lifetime_over(child& c) = 0;

protected:
    ~lifetimes_owner() = default;
};

class lifetimes {
public:
    lifetimes(boost::asio::io_context& io, child_table& children, const ipc::feature_set& features,
              lifetimes_owner& owner);

    enum class pace { lifetime, at_once };
    // Sends the lifetime's signal (SIGKILL with a grace of 0, or when it is to end
    // at once). A child that is being ended already is only made to hurry.
    void end(child& c, pace p = pace::lifetime);

    // To be called when a child has exited: what is left of its group or cgroup
    // keeps its grace, and is over as soon as the last of it is.
    void child_exited(child& c);

    // No child is being ended.
    [[nodiscard]] bool idle() const noexcept { return ending_ == 0; }

    int signal(const child& c, int number, signal_target target) const;
    [[nodiscard]] bool anyone_left(const child& c) const;

private:
    [[nodiscard]] bool is_over(const child& c) const;
    void finish(child& c);
    void look_after(child_id id);
    void arm_look(steady::duration after);
    void look();
    void arm();
    void expire();

    boost::asio::steady_timer timer_;
    child_table& children_;
    const signal_means means_;
    lifetimes_owner& owner_;
    std::size_t ending_ = 0;
    std::set<std::pair<steady::time_point, child_id>> deadlines_;
    steady::time_point armed_for_ = steady::time_point::max();
    // Of the ending ones, those whose leader has exited while others of the group, cgroup
    // or tree live: these are no children of ours, so that we must look for their end.
    std::set<child_id> leaderless_;
    boost::asio::steady_timer look_timer_;
    steady::duration look_interval_{};
    child_id look_from_;  // in the midst of a look: the next
};

}  // namespace cleanfork::daemon
