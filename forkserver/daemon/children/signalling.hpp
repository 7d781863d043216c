// Signals to a child, its process group, its cgroup or its tree.
#pragma once

#include "forkserver/daemon/children/child.hpp"

namespace cleanfork::daemon {

// What the kernel offers for it.
struct signal_means {
    bool group_by_pidfd = false;  // else a group is reached only while its leader is unreaped
    bool cgroup_kill = false;     // else its members are listed, and killed one by one
};

// 0 or errno: ESRCH when there is nobody left.
int signal_child(const child& c, int signal, signal_target target, const signal_means& means);

// True while somebody of what the lifetime's target means is alive.
bool anyone_left(const child& c, const signal_means& means);

}  // namespace cleanfork::daemon
