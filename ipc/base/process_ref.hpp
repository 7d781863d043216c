// A process as pid and pidfd together: the pidfd acts, free of pid reuse, and the
// pid is for display.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>
#include <sys/wait.h>

#include <cleanfork/unique_fd.hpp>
#include <csignal>
#include <optional>
#include <string>
#include <utility>

namespace cleanfork::ipc {

// How a process ended, as wait4(2) tells it.
struct process_end {
    int wait_status = 0;
    rusage usage{};
};

struct reaped {
    bool is_child = false;           // false: it is no child of ours, or was reaped before
    int error_number = 0;            // then: why it could not be reaped
    std::optional<process_end> end;  // empty: it lives (WNOHANG)
};

// As wait(2) would have given it.
int wait_status_of(const siginfo_t& info) noexcept;
// "exited with 3", "was killed by signal 9".
std::string ended_how(int wait_status);

// Not thread-safe, as unique_fd is not; the calls that are const may be made at once.
class process_ref {
public:
    process_ref() = default;
    // Consumes `pidfd`, which refers to `pid`.
    process_ref(pid_t pid, unique_fd pidfd) noexcept : pid_(pid), pidfd_(std::move(pidfd)) {}

    // True when there is a pidfd to act through.
    explicit operator bool() const noexcept { return static_cast<bool>(pidfd_); }
    [[nodiscard]] pid_t pid() const noexcept { return pid_; }
    // Borrowed; -1 when there is none.
    [[nodiscard]] int pidfd() const noexcept { return pidfd_.get(); }
    [[nodiscard]] unique_fd take_pidfd() && noexcept { return std::move(pidfd_); }

    // 0, or errno: ESRCH once the process was reaped, or when there is no pidfd.
    int signal(int number) const noexcept;
    // To the process group it leads. From Linux 6.9 on through the pidfd, right even after the
    // leader was reaped; else by its number, and only while the leader is there: ESRCH after.
    enum class group_means { pidfd_or_number, number };
    int signal_group(int number, group_means by = group_means::pidfd_or_number) const noexcept;

    // waitid(P_PIDFD) for a child of the caller: what is reaped is told once. `options` is 0,
    // to wait for its end, or WNOHANG.
    [[nodiscard]] reaped reap(int options) const noexcept;

private:
    pid_t pid_ = 0;
    unique_fd pidfd_;
};

// ---- the same for a pidfd that is borrowed

// pidfd_send_signal(2). 0, or errno: ESRCH once the process was reaped.
int pidfd_signal(int pidfd, int signal) noexcept;
// To the process group the pidfd's process leads (PIDFD_SIGNAL_PROCESS_GROUP,
// Linux 6.9): free of reuse even after the leader was reaped. EINVAL where missing.
int pidfd_signal_group(int pidfd, int signal) noexcept;

// Empty, with errno, when there is no such process.
unique_fd pidfd_open(int pid) noexcept;

// The wait(2) status of a process that was reaped, by whoever reaped it: ioctl
// PIDFD_GET_INFO with PIDFD_INFO_EXIT (Linux 6.15, commit 7477d7dce48a). Empty
// while it is unreaped (wait for POLLHUP) or where the kernel lacks it.
std::optional<int> pidfd_exit_status(int pidfd) noexcept;

// What the kernel tells of a pidfd that another process handed over: PIDFD_GET_INFO (Linux 6.13),
// else /proc. Empty when it is no pidfd, or nobody can tell.
struct pidfd_facts {
    pid_t pid = 0;     // in the caller's namespace; 0: it was reaped
    pid_t parent = 0;  // that of the thread group
};
std::optional<pidfd_facts> look_at_pidfd(int pidfd);

enum class pidfd_event {
    ended,   // POLLIN: reaped or not
    reaped,  // POLLHUP
};
// poll(2) of one pidfd: true once it has come to that. timeout_ms as in poll.
bool pidfd_wait(int pidfd, pidfd_event e, int timeout_ms) noexcept;

}  // namespace cleanfork::ipc
