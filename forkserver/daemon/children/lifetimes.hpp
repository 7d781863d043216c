// Ends children whose session is over: their signal, their grace, then SIGKILL.
#pragma once

#include <chrono>
#include <cstdint>
#include <set>
#include <utility>

#include "forkserver/daemon/children/child_table.hpp"
#include "forkserver/daemon/children/signalling.hpp"
#include "forkserver/daemon/log.hpp"
#include "forkserver/daemon/loop/bounded_timer.hpp"
#include "forkserver/daemon/loop/event_loop.hpp"
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
    lifetimes(event_loop& io, child_table& children, const ipc::feature_set& features, logger& log,
              lifetimes_owner& owner);

    enum class pace { lifetime, at_once };
    // Sends the lifetime's signal (SIGKILL with a grace of 0, or when it is to end
    // at once). A child that is being ended already is only made to hurry.
    void end(child& c, pace p = pace::lifetime);

    // To be called when a child has exited: what is left of its group or cgroup
    // keeps its grace, and is over as soon as the last of it is.
    void child_exited(child& c);

    // No child is being ended. One that does not end although it was killed, since the kernel
    // does not let the forkserver signal it (EPERM) or does not come to it, is given up after a
    // while, which is logged: nobody waits for it for ever.
    [[nodiscard]] bool idle() const noexcept { return ending_ == 0; }

    int signal(const child& c, int number, signal_target target) const;
    [[nodiscard]] bool anyone_left(const child& c) const;

private:
    [[nodiscard]] bool is_over(const child& c) const;
    void give_time(child& c, steady::duration time);
    void kill(child& c);
    void give_up(child& c, const char* why);
    void finish(child& c);
    void look_after(child_id id);
    void arm_look(steady::duration after);
    void look();
    void look_at(child& c);
    void arm();
    void expire();

    event_loop& io_;
    bounded_timer deadline_;
    child_table& children_;
    logger& log_;
    const signal_means means_;
    lifetimes_owner& owner_;
    std::size_t ending_ = 0;
    std::set<std::pair<steady::time_point, child_id>> deadlines_;
    // Of the ending ones, those whose leader has exited while others of the group, cgroup
    // or tree live: these are no children of ours, so that we must look for their end.
    std::set<child_id> leaderless_;
    bounded_timer look_again_;
    steady::duration look_interval_{};
    child_id look_from_;  // in the midst of a look: the next
};

}  // namespace cleanfork::daemon
