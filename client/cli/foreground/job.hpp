// The job that this command is part of: its process group at the terminal of its session, as a
// shell made it. A child in that group has the terminal, and its signals, as a command that the
// shell itself had started.
#pragma once

#include <sys/types.h>

#include <vector>

namespace cleanfork::cli {

// There is a terminal for /dev/tty to open, and a number for our process group.
bool has_terminal() noexcept;

// No shell of the session could continue what stops in our group: the kernel does not let its
// terminal stop it. Where /proc does not tell, there is a shell.
bool job_is_orphaned();

// Those signals that shells and nohup(1) leave ignored, and which are.
std::vector<int> ignored_job_signals();

// The child of ours in the job and what descends from it, as far as it is in the job still: not
// this command, not the other commands of a pipeline. `server` is the forkserver.
std::vector<pid_t> members_of_child(pid_t child, pid_t server);

}  // namespace cleanfork::cli
