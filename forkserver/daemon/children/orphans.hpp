// What becomes of processes whose parent ended before them, once the forkserver is
// their reaper (PR_SET_CHILD_SUBREAPER): children of a template that died, above all.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cleanfork/failure.hpp>

#include "forkserver/daemon/children/child_table.hpp"
#include "forkserver/spawn/launcher.hpp"

namespace cleanfork::daemon {

// A forkserver without templates is no subreaper: what its programs leave behind
// belongs to init, as ever.
class orphans {
public:
    orphans(boost::asio::io_context& io, const spawn::launcher& launcher, child_table& children);

    // From the first template on. Again is harmless.
    result<void> adopt_from_now_on();
    // Reaps what has ended and is nobody's business, or the table's if it is known there.
    void reap();

private:
    void await();

    const spawn::launcher& launcher_;
    child_table& children_;
    boost::asio::posix::stream_descriptor signals_;
    boost::asio::steady_timer pause_;
};

}  // namespace cleanfork::daemon
