// What a request tells of the child that it asks for.
#pragma once

#include "forkserver/daemon/children/child.hpp"
#include "forkserver/daemon/sessions/spawn_queue.hpp"

namespace cleanfork::daemon {

// The child a request asks for, before its process exists.
child_origin origin_of(const queued_spawn& q);
// The cgroup it names, for the child's lifetime. Empty, with errno, when that is none.
unique_fd cgroup_of(const queued_spawn& q);

}  // namespace cleanfork::daemon
