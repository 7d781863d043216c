// All descendants of a child, found in /proc where no cgroup holds them.
//
// A process belongs to the tree when its parent does, or when it has the child's mark: the hard
// limit RLIMIT_LOCKS, which Linux has not looked at since 2.4, but which every fork and exec
// hands on. So one whose parent has ended is found, also with another session, user, program or
// environment. A process that sets this limit anew and outlives its parent is not found.
#pragma once

#include <sys/types.h>

#include <cstdint>

namespace cleanfork::daemon {

// The mark for a new child, different from any other's; 0 when this process's own limit leaves no
// room for one, or cannot be set here, or /proc is not there to look in.
std::uint64_t new_tree_mark();

struct tree_root {
    pid_t pid = 0;  // 0: it was reaped
    std::uint64_t mark = 0;
};

// To each process that belongs to it. SIGKILL ends them all, also those that fork meanwhile: each
// is stopped first, and looked for again until a pass finds no new one. 0, or ESRCH when there is
// none, or EPERM when none may be signalled. Costs two system calls or more for each process of
// the machine, a few times for SIGKILL.
int signal_tree(const tree_root& root, int signal);

// True while there is one that a signal reaches.
bool anyone_in_tree(const tree_root& root);

}  // namespace cleanfork::daemon
