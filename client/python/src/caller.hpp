// What a child of fork(2) would have of its parent, and a fresh one has not.
#pragma once

#include <sys/types.h>

#include <cleanfork/spawn_options.hpp>
#include <string>

namespace cleanfork::python {

// Environment and working directory of the program, as a session's base was made
// of them. While they are the same, a request need not carry them.
class base_state {
public:
    base_state();  // of now
    friend bool operator==(const base_state&, const base_state&) = default;

private:
    std::string environment_;
    // No other directory can have these numbers while the forkserver holds this one.
    dev_t device_ = 0;
    ino_t inode_ = 0;
};

// The umask and the signals that are ignored. Python itself ignores SIGPIPE and SIGXFSZ, which is
// no decision of the program: as restore_signals of the standard module has it.
void take_inherited(spawn_options& o);

// These, and the process group of this program, where the forkserver of that pid can have it.
void make_like_caller(spawn_options& o, pid_t forkserver);

// Whether a process that others fork may come into this program's process group without harm.
//
// Its parent is outside of the group and in its session. When it ends as the last one of which
// that is true, the group has become orphaned, and if one of it is stopped the kernel sends
// SIGHUP to all (setpgid(2), kill_orphaned_pgrp() of kernel/exit.c): to this program, which
// nobody's job control has to do with. So an ancestor must be such a one already, as below a
// shell's job; or the group has a terminal, whose Ctrl-C is for its processes as well.
bool group_is_a_job();

}  // namespace cleanfork::python
