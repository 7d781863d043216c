#include "tests/faults/calls.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cstdlib>
#include <cstring>

namespace cleanfork::faults {

namespace {

struct known_call {
    int number;
    std::string_view name;
    std::vector<int> errnos;
};

#define CALL(name, ...)                    \
    known_call {                           \
        SYS_##name, #name, { __VA_ARGS__ } \
    }

// From section ERRORS of the page of each call in section 2 of the manual (Linux man-pages 6.9):
// what may happen to a program without a bug. Of those that mean the same to a caller (EMFILE,
// ENFILE) there is one or two. With no errno a process is killed before the call, no more:
//   close: the descriptor is released whatever it returns, which cannot be played;
//   flock with EWOULDBLOCK: another forkserver serves the path, which is told as EADDRINUSE;
//   sendmsg with EPIPE: the other end has closed, which does not pass;
//   getpid and its kind, umask, munmap of what was mapped whole: never fail.
const std::vector<known_call> k_calls{
    {k_allocation, "allocation", {ENOMEM}},
    // files
    CALL(openat, EMFILE, ENOMEM, EACCES, EIO, EINTR),
    CALL(mknodat, EACCES, ENOSPC),
    CALL(renameat, ENOSPC, EACCES, EROFS),
    CALL(linkat, ENOSPC, EACCES, EROFS),
    CALL(openat2, EMFILE, ENOMEM, EACCES, EAGAIN),
    CALL(close),
    CALL(read, EIO, EINTR, ENOMEM),
    CALL(pread64, EIO, EINTR),
    CALL(preadv2, EIO, EAGAIN),
    CALL(write, EIO, ENOSPC, EINTR, EPIPE),
    CALL(writev, EIO, ENOSPC, EINTR, EPIPE),
    CALL(pwrite64, EIO, ENOSPC, EINTR),
    CALL(lseek, EIO),
    CALL(ftruncate, ENOSPC, EIO, EINTR),
    CALL(fstat, ENOMEM, EIO),
    CALL(newfstatat, ENOMEM, EACCES, EIO),
    CALL(statx, ENOMEM, EACCES, EIO),
    CALL(fstatfs, EIO, ENOMEM),
    CALL(readlinkat, ENOMEM, EIO),
    CALL(getdents64, EIO, ENOMEM),
    CALL(getcwd, ENOENT, ENOMEM),
    CALL(fchdir, EACCES, EIO),
    CALL(faccessat, EACCES, ENOMEM),
    CALL(mkdirat, ENOSPC, EACCES, EROFS),
    CALL(unlinkat, EACCES, EIO, EROFS),
    CALL(renameat2, ENOSPC, EACCES, EROFS),
    CALL(fchmodat, EPERM, EIO, EROFS),
    CALL(fchmod, EPERM, EIO),
    CALL(fchown, EPERM, EIO),
    CALL(flock, EINTR, ENOLCK),
    CALL(umask),
    CALL(fcntl),
    CALL(dup, EMFILE),
    CALL(dup3, EBUSY, EMFILE, EINTR),
    CALL(pipe2, EMFILE, ENFILE),
    CALL(memfd_create, EMFILE, ENOMEM),
    CALL(ioctl, ENOTTY, ENOMEM),
    CALL(close_range, EMFILE, ENOMEM),
    CALL(fadvise64, EINVAL),
    CALL(copy_file_range, EIO, ENOSPC),
    CALL(sendfile, EIO, ENOMEM),
    // memory
    CALL(mmap, ENOMEM),
    CALL(mremap, ENOMEM),
    CALL(mprotect, ENOMEM),
    CALL(madvise, ENOMEM, EAGAIN),
    CALL(munmap),
    CALL(brk),
    // sockets
    CALL(socket, EMFILE, ENOBUFS),
    CALL(socketpair, EMFILE, ENFILE),
    CALL(bind, EADDRINUSE, EACCES, ENOSPC),
    CALL(listen, EADDRINUSE),
    CALL(accept4, EMFILE, ENOBUFS, EPERM, ECONNABORTED, EINTR),
    CALL(connect, EAGAIN, ECONNREFUSED, EINTR, ENOBUFS),
    CALL(sendmsg, ENOBUFS, ENOMEM, ETOOMANYREFS, EINTR),
    CALL(sendto, ENOBUFS, ENOMEM, EINTR),
    CALL(recvmsg, ENOMEM, EINTR, ECONNRESET),
    CALL(recvfrom, ENOMEM, EINTR),
    CALL(getsockopt, ENOBUFS, ENOMEM),
    CALL(setsockopt, ENOMEM, ENOBUFS),
    CALL(getsockname, ENOBUFS),
    CALL(getpeername, ENOBUFS),
    CALL(shutdown),
    // waiting
    CALL(epoll_create1, EMFILE, ENOMEM),
    CALL(epoll_ctl, ENOSPC, ENOMEM),
    CALL(epoll_pwait, EINTR),
    CALL(epoll_pwait2, EINTR),
    CALL(ppoll, EINTR, ENOMEM),
    CALL(pselect6, EINTR, ENOMEM),
    CALL(eventfd2, EMFILE, ENOMEM),
    CALL(signalfd4, EMFILE, ENOMEM),
    CALL(timerfd_create, EMFILE, ENOMEM),
    CALL(timerfd_settime, EINVAL),
    CALL(inotify_init1, EMFILE),
    CALL(inotify_add_watch, ENOSPC, ENOMEM),
    CALL(futex),
    CALL(clock_nanosleep, EINTR),
    // processes
    CALL(clone, EAGAIN, ENOMEM),
    CALL(clone3, EAGAIN, ENOMEM, ENOSYS),
    CALL(execve, ENOENT, EACCES, ENOMEM, ETXTBSY, EIO),
    CALL(execveat, ENOENT, EACCES, ENOMEM, EIO),
    CALL(waitid, EINTR, ECHILD),
    CALL(wait4, EINTR, ECHILD),
    CALL(kill, EPERM),
    CALL(pidfd_open, EMFILE, ENOMEM),
    CALL(pidfd_send_signal, EPERM),
    CALL(pidfd_getfd, EMFILE, EPERM),
    CALL(setsid, EPERM),
    CALL(setpgid, EPERM),
    CALL(getpgid, EPERM),
    CALL(getsid, EPERM),
    CALL(prctl, EPERM),
    CALL(capget, EPERM),
    CALL(capset, EPERM),
    CALL(prlimit64, EPERM),
    CALL(getrlimit),
    CALL(getrusage),
    CALL(getgroups, EINVAL),
    CALL(setgroups, EPERM, ENOMEM),
    CALL(setresuid, EAGAIN, EPERM),
    CALL(setresgid, EPERM),
    CALL(sched_getaffinity, EPERM),
    CALL(sched_setaffinity, EPERM),
    CALL(sched_getscheduler, EPERM),
    CALL(sched_getattr, EPERM),
    CALL(sched_getparam, EPERM),
    CALL(sched_setscheduler, EPERM),
    CALL(getpriority, EPERM),
    CALL(setpriority, EPERM),
    CALL(rt_sigaction),
    CALL(rt_sigprocmask),
    CALL(kcmp, EPERM),
    CALL(getrandom, EINTR),
    CALL(sysinfo),
    CALL(uname),
    CALL(getpid),
    CALL(getppid),
    CALL(gettid),
    CALL(getuid),
    CALL(geteuid),
    CALL(getgid),
    CALL(getegid),
    CALL(getresuid),
    CALL(getresgid),
    CALL(clock_gettime),
    CALL(sched_yield),
    CALL(set_tid_address),
    CALL(set_robust_list),
    CALL(rseq),
    CALL(exit),
    CALL(exit_group),
    CALL(rt_sigreturn),
    CALL(restart_syscall),
    CALL(seccomp),
    CALL(membarrier, ENOMEM),
#ifdef __x86_64__
    CALL(open, EMFILE, ENOMEM, EACCES, EIO, EINTR),
    CALL(stat, ENOMEM, EACCES, EIO),
    CALL(lstat, ENOMEM, EACCES, EIO),
    CALL(access, EACCES, ENOMEM),
    CALL(readlink, ENOMEM, EIO),
    CALL(mkdir, ENOSPC, EACCES, EROFS),
    CALL(rmdir, EBUSY, EACCES),
    CALL(unlink, EACCES, EIO, EROFS),
    CALL(rename, ENOSPC, EACCES, EROFS),
    CALL(chmod, EPERM, EIO, EROFS),
    CALL(dup2, EBUSY, EMFILE, EINTR),
    CALL(pipe, EMFILE, ENFILE),
    CALL(poll, EINTR, ENOMEM),
    CALL(select, EINTR, ENOMEM),
    CALL(epoll_wait, EINTR),
    CALL(fork, EAGAIN, ENOMEM),
    CALL(vfork, EAGAIN, ENOMEM),
    CALL(getpgrp),
    CALL(arch_prctl),
    CALL(time),
#endif
};
#undef CALL

const known_call* find_call(int number) {
    for (const known_call& c : k_calls)
        if (c.number == number) return &c;
    return nullptr;
}

}  // namespace

std::string name_of_call(int number) {
    const known_call* c = find_call(number);
    return c != nullptr ? std::string(c->name) : std::to_string(number);
}

int call_of_name(std::string_view name) {
    for (const known_call& c : k_calls)
        if (c.name == name) return c.number;
    return -1;
}

std::string name_of_errno(int error_number) {
    const char* name = ::strerrorname_np(error_number);
    return name != nullptr ? name : std::to_string(error_number);
}

int errno_of_name(std::string_view name) {
    for (int e = 1; e < 140; ++e)
        if (name_of_errno(e) == name) return e;
    return -1;
}

std::vector<int> errnos_of(int number, const std::array<std::uint64_t, 6>& args) {
    // What only asks for something of the caller itself does not fail.
    if (number == SYS_prlimit64 && args[2] == 0) return {};
    if (number == SYS_prctl) switch (args[0]) {
            case PR_GET_SECCOMP:
            case PR_GET_SECUREBITS:
            case PR_GET_NO_NEW_PRIVS:
            case PR_CAPBSET_READ:
            case PR_CAP_AMBIENT: return {};
            default: break;
        }
    // A template asks for whichever child has ended, and has them.
    if (number == SYS_waitid && args[0] == P_ALL) return {EINTR};
    if (number == SYS_fcntl) switch (args[1]) {
            case F_DUPFD:
            case F_DUPFD_CLOEXEC: return {EMFILE};
            case F_ADD_SEALS: return {EPERM};
            default: return {};
        }
    const known_call* c = find_call(number);
    return c != nullptr ? c->errnos : std::vector<int>{ENOMEM};
}

}  // namespace cleanfork::faults
