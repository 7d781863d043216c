// Signals to a child, its process group or its cgroup.
#pragma once

#include "forkserver/daemon/children/child.hpp"

namespace cleanfork::daemon {

// 0 or errno: ESRCH when there is nobody left. `by_pidfd`: the kernel signals groups through
// the pidfd; else a group is reached only while its leader is unreaped.
int signal_child(const child& c, int signal, signal_target target, bool by_pidfd, bool cgroup_kill);

// True while somebody of what the lifetime's target means is alive.
bool anyone_left(const child& c, bool by_pidfd);

}  // namespace cleanfork::daemon
