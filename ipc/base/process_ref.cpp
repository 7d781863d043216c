#include "ipc/base/process_ref.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstdint>
#include <string>

#include "ipc/base/proc.hpp"
#include "ipc/base/process_stat.hpp"
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

// A number is signalled only while its process is unreaped, since it may be another's then; and
// never 0, 1 or less, which are no group but many processes.
int process_ref::signal_group(int number, group_means by) const noexcept {
    if (!pidfd_) return ESRCH;
    if (by == group_means::pidfd_or_number) {
        const int e = pidfd_signal_group(pidfd_.get(), number);
        if (e != EINVAL) return e;
    }
    if (pid_ <= 1) return ESRCH;
    if (const int e = pidfd_signal(pidfd_.get(), 0); e != 0 && e != EPERM) return e;
    return ::kill(-pid_, number) == 0 ? 0 : errno;
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
    if (done != 0) return {.is_child = false, .error_number = errno, .end = std::nullopt};
    if (info.si_pid == 0) return {.is_child = true, .error_number = 0, .end = std::nullopt};
    end.wait_status = wait_status_of(info);
    return {.is_child = true, .error_number = 0, .end = end};
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

namespace {

// Where the kernel has no PIDFD_GET_INFO. The parent is looked up by the number, so the pidfd is
// asked again after it: one that still is there had that number all the time.
std::optional<pidfd_facts> look_in_proc(int pidfd) {
    const std::string number = "/proc/self/fdinfo/" + std::to_string(pidfd);
    const auto about = read_file(AT_FDCWD, number);
    if (!about || about->find("\nPid:") == std::string::npos) return std::nullopt;
    pidfd_facts facts;
    facts.pid = to_number(field(*about, "Pid:"));
    if (facts.pid <= 0) return pidfd_facts{};
    if (const auto stat = stat_of(facts.pid)) facts.parent = stat->parent;
    const int there = pidfd_signal(pidfd, 0);
    return there == 0 || there == EPERM ? facts : pidfd_facts{};
}

// From what the kernel has in memory: a file system that does not answer is not asked.
dev_t device_of(int fd) noexcept {
    struct statx about {};
    if (::statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &about) != 0) return 0;
    return makedev(about.stx_dev_major, about.stx_dev_minor);
}

// So that no driver of something else is asked what only a pidfd understands.
bool is_where_pidfds_are(int fd) noexcept {
    static dev_t device = 0;  // asked for again when there was no descriptor to ask with
    if (device == 0) device = device_of(pidfd_open(::getpid()).get());
    return device != 0 && device_of(fd) == device;
}

}  // namespace

std::optional<pidfd_facts> look_at_pidfd(int pidfd) {
    if (!is_where_pidfds_are(pidfd)) return std::nullopt;
    pidfd_info_v0 info{};
    info.mask = 1;  // PIDFD_INFO_PID
    if (::ioctl(pidfd, k_pidfd_get_info, &info) == 0)
        return pidfd_facts{static_cast<pid_t>(info.tgid), static_cast<pid_t>(info.ppid)};
    if (errno == ESRCH) return pidfd_facts{};
    return look_in_proc(pidfd);
}

bool pidfd_wait(int pidfd, pidfd_event e, int timeout_ms) noexcept {
    // POLLHUP is always reported; asking for POLLIN too would return at the end.
    const bool reaped = e == pidfd_event::reaped;
    pollfd p{pidfd, static_cast<short>(reaped ? 0 : POLLIN), 0};
    const int n = retry([&] { return ::poll(&p, 1, timeout_ms); });
    return n > 0 && (p.revents & (reaped ? POLLHUP : (POLLIN | POLLHUP))) != 0;
}

}  // namespace cleanfork::ipc
