// The output of a child that goes to files of a bounded size.
#pragma once

#include <vector>

#include "forkserver/daemon/sessions/spawn_queue.hpp"
#include "forkserver/spawn/disposal.hpp"

namespace cleanfork::daemon {

// Takes the logs out of the request: their targets become pipes, and what is given back are the
// spawns of the processes that read them, to be started first. These are started anew when they are
// killed, from the same pipe, of which the forkserver keeps the reading end for that: so the child
// gets no SIGPIPE, and nothing that was in the pipe is lost.
result<std::vector<queued_spawn>> take_log_writers(queued_spawn& q,
                                                   const spawn::shared_disposal& disposal);

}  // namespace cleanfork::daemon
