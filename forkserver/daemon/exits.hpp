// What is done with an exit: who is told, and when the child is forgotten.
#pragma once

#include <deque>
#include <vector>

#include "forkserver/daemon/children/lifetimes.hpp"
#include "forkserver/daemon/children/restarts.hpp"
#include "forkserver/daemon/children/unclaimed.hpp"
#include "forkserver/daemon/core.hpp"
#include "forkserver/daemon/spawns.hpp"
#include "forkserver/daemon/templates/template_table.hpp"

namespace cleanfork::daemon {

class exits {
public:
    exits(core& c, child_table& children, lifetimes& ends, template_table& templates, leases& out,
          spawns& spawning, restarts& again);

    // The process of a child has ended.
    void on_exit(child& c);
    // It was its last: the child is over, its `exit` is filled.
    void over(child& c);
    // Sends what the exits since have to tell, many in a packet.
    void flush();
    // The session is over, for whatever reason: its children meet their lifetimes, and it
    // waits for nobody's exit any more. Of many children, some in each turn of the loop.
    void end_session(const session& s);

    void wait(session& s, request_id request, child_id id);
    // The session has been told of the exit. One can only be acknowledged by the session
    // it was told to.
    void acknowledge(const session& s, child_id id);
    // What a child that has ended left in its group or cgroup does not meet its lifetime.
    void leave_rest(const session& s, child_id id);
    // Nobody has anything more to do with it, and nobody of its target is left.
    void forget_if_done(child& c);
    // As many statuses of children that are nobody's.
    void keep_unclaimed(std::size_t most) noexcept { unclaimed_.keep_at_most(most); }

private:
    struct ended_session {
        session_id id;
        bool waits = false;
        child_id next;  // the first of all children that was not looked at
    };

    void log(const child& c);
    void end_some();
    void end_of_session(child& c);
    void tell(child& c);
    // False when no session that asked is there any more.
    bool tell_waiters(child& c);

    core& core_;
    child_table& children_;
    lifetimes& lifetimes_;
    template_table& templates_;
    leases& leases_;
    spawns& spawns_;
    restarts& restarts_;
    unclaimed unclaimed_;
    std::vector<session_id> to_flush_;
    std::deque<ended_session> ended_;
    bool ending_ = false;            // goes on in a turn to come
    std::vector<child_id> visited_;  // in one turn; has room for all of them
};

}  // namespace cleanfork::daemon
