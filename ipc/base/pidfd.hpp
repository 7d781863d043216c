// pidfds: signals and exit information without pid reuse.
#pragma once

#include <cleanfork/unique_fd.hpp>
#include <optional>

namespace cleanfork::ipc {

// pidfd_send_signal(2). 0, or errno: ESRCH once the process was reaped.
int pidfd_signal(int pidfd, int signal) noexcept;
// To the process group the pidfd's process leads (PIDFD_SIGNAL_PROCESS_GROUP,
// Linux 6.9): free of reuse even after the leader was reaped. EINVAL where missing.
int pidfd_signal_group(int pidfd, int signal) noexcept;

unique_fd pidfd_open(int pid) noexcept;

// The wait(2) status of a process that was reaped, by whoever reaped it: ioctl
// PIDFD_GET_INFO with PIDFD_INFO_EXIT (Linux 6.15, commit 7477d7dce48a). Empty
// while it is unreaped (wait for POLLHUP) or where the kernel lacks it.
std::optional<int> pidfd_exit_status(int pidfd) noexcept;

// poll(2) of one pidfd: true once the process has ended (POLLIN); with `reaped`
// once it was reaped too (POLLHUP). timeout_ms as in poll.
bool pidfd_wait(int pidfd, bool reaped, int timeout_ms) noexcept;

}  // namespace cleanfork::ipc
