// What becomes of processes whose parent ended before them, once the forkserver is
// their reaper (PR_SET_CHILD_SUBREAPER): children of a template that died, above all.
#pragma once

#include <cleanfork/failure.hpp>

#include "forkserver/daemon/children/births.hpp"
#include "forkserver/daemon/children/child_table.hpp"
#include "forkserver/daemon/loop/bounded_timer.hpp"
#include "forkserver/daemon/loop/event_loop.hpp"
#include "forkserver/daemon/loop/watched_fd.hpp"
#include "forkserver/spawn/launcher.hpp"

namespace cleanfork::daemon {

// A forkserver without templates is no subreaper: what its programs leave behind
// belongs to init, as ever.
class orphans {
public:
    orphans(event_loop& io, const spawn::launcher& launcher, child_table& children,
            const births& begin);

    // From the first template on; from the start on where it is the init of a PID namespace, whose
    // orphans come to it in any case. Again is harmless.
    result<void> adopt_from_now_on();
    // Reaps what has ended and is nobody's business, or the table's if it is known there. False: of
    // the births the first has, who look at it soon; the others wait behind that.
    bool reap();

private:
    void await();
    void reap_and_await();

    event_loop& io_;
    const spawn::launcher& launcher_;
    child_table& children_;
    const births& births_;
    watched_fd signals_;
    bounded_timer again_;
};

}  // namespace cleanfork::daemon
