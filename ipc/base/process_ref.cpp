#include "ipc/base/process_ref.hpp"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

#include "ipc/base/sys.hpp"

namespace cleanfork::ipc {

namespace {

// From include/uapi/linux/pidfd.h of Linux 6.15: Debian 12's headers are older.
struct pidfd_info_v0 {
    std::uint64_t mask;
    std::uint64_t cgroupid;
    std::uint32_t pid, tgid, ppid;
    std::uint32_t ruid, rgid, euid, egid, suid, sgid, fsuid, fsgid;
    std::int32_t exit_code;
};
static_assert(sizeof(pidfd_info_v0) == 64);
constexpr std::uint64_t k_pidfd_info_exit = 1U << 3;
constexpr unsigned long k_pidfd_get_info = _IOWR(0xFF, 11, pidfd_info_v0);
constexpr unsigned k_pidfd_signal_process_group = 1U << 2;

int send(int pidfd, int signal, unsigned flags) noexcept {
    return ::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, flags) == 0 ? 0 : errno;
}

}  // namespace

int wait_status_of(const siginfo_t& info) noexcept {
    if (info.si_code == CLD_EXITED) return W_EXITCODE(info.si_status, 0);
    return info.si_status | (info.si_code == CLD_DUMPED ? WCOREFLAG : 0);
}

std::string ended_how(int wait_status) {
    if (WIFSIGNALED(wait_status))
        return "was killed by signal " + std::to_string(WTERMSIG(wait_status));
    return "exited with " + std::to_string(WEXITSTATUS(wait_status));
}

int process_ref::signal(int number) const noexcept {
    return pidfd_ ? pidfd_signal(pidfd_.get(), number) : ESRCH;
}

int process_ref::signal_group(int number) const noexcept {
    return pidfd_ ? pidfd_signal_group(pidfd_.get(), number) : ESRCH;
}

// The raw call: libc's waitid has no place for the rusage.
reaped process_ref::reap(int options) const noexcept {
    constexpr int k_by_pidfd = 3;  // P_PIDFD, which not every libc has
    siginfo_t info{};
    process_end end;
    const long done = retry([&] {
        return ::syscall(SYS_waitid, k_by_pidfd, pidfd_.get(), &info, WEXITED | options,
                         &end.usage);
    });
    if (done != 0) return {};
    if (info.si_pid == 0) return {.is_child = true, .end = std::nullopt};
    end.wait_status = wait_status_of(info);
    return {.is_child = true, .end = end};
}

int pidfd_signal(int pidfd, int signal) noexcept { return send(pidfd, signal, 0); }
int pidfd_signal_group(int pidfd, int signal) noexcept {
    return send(pidfd, signal, k_pidfd_signal_process_group);
}

unique_fd pidfd_open(int pid) noexcept {
    return unique_fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

std::optional<int> pidfd_exit_status(int pidfd) noexcept {
    pidfd_info_v0 info{};
    info.mask = k_pidfd_info_exit;
    if (::ioctl(pidfd, k_pidfd_get_info, &info) != 0) return std::nullopt;
    if ((info.mask & k_pidfd_info_exit) == 0) return std::nullopt;
    return info.exit_code;
}

bool pidfd_wait(int pidfd, pidfd_event e, int timeout_ms) noexcept {
    // POLLHUP is always reported; asking for POLLIN too would return at the end.
    const bool reaped = e == pidfd_event::reaped;
    pollfd p{pidfd, static_cast<short>(reaped ? 0 : POLLIN), 0};
    const int n = retry([&] { return ::poll(&p, 1, timeout_ms); });
    return n > 0 && (p.revents & (reaped ? POLLHUP : (POLLIN | POLLHUP))) != 0;
}

}  // namespace cleanfork::ipc
