#include "forkserver/spawn/steps.hpp"

#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstddef>

#include "forkserver/spawn/child_descriptors.hpp"
#include "forkserver/spawn/credentials.hpp"
#include "ipc/base/raw_call.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::spawn {

namespace {

using ipc::error_of;
using ipc::raw_call;

// Decimal digits of `value`, with a NUL; `out` has room for 12 bytes.
std::size_t write_decimal(char* out, long value) noexcept {
    char digits[24];
    std::size_t n = 0;
    const bool negative = value < 0;
    unsigned long v =
        negative ? 0UL - static_cast<unsigned long>(value) : static_cast<unsigned long>(value);
    do digits[n++] = static_cast<char>('0' + v % 10);
    while ((v /= 10) != 0);
    std::size_t size = 0;
    if (negative) out[size++] = '-';
    while (n != 0) out[size++] = digits[--n];
    out[size] = '\0';
    return size;
}

int write_file(int directory, const char* path, const char* text, std::size_t size) noexcept {
    const long fd = raw_call(SYS_openat, directory, path, O_WRONLY | O_CLOEXEC, 0);
    if (fd < 0) return error_of(fd);
    const int e = error_of(raw_call(SYS_write, fd, text, size));
    raw_call(SYS_close, fd);
    return e;
}

int join_cgroup(const plan& p) noexcept {
    if (!p.join_cgroup) return 0;
    return write_file(p.cgroup_fd, "cgroup.procs", "0", 1);
}

int session(const plan& p) noexcept { return p.new_session ? error_of(raw_call(SYS_setsid)) : 0; }

int process_group(const plan& p) noexcept {
    if (p.new_session || !p.set_process_group) return 0;
    return error_of(raw_call(SYS_setpgid, 0, p.process_group));
}

int controlling_terminal(const plan& p) noexcept {
    if (p.controlling_terminal < 0) return 0;
    return error_of(raw_call(SYS_ioctl, p.controlling_terminal, TIOCSCTTY, 0));
}

// The forkserver is not dumpable, which makes /proc/self root's: for one that
// is not root the flag of the shared memory is lifted for this one write.
int oom_score_adj(const conduct_plan& p) noexcept {
    if (!p.set_oom_score_adj) return 0;
    char text[12];
    const std::size_t size = write_decimal(text, p.oom_score_adj);
    int e = write_file(AT_FDCWD, "/proc/self/oom_score_adj", text, size);
    if (e == EACCES && raw_call(SYS_prctl, PR_GET_DUMPABLE) == 0) {
        raw_call(SYS_prctl, PR_SET_DUMPABLE, 1);
        e = write_file(AT_FDCWD, "/proc/self/oom_score_adj", text, size);
        raw_call(SYS_prctl, PR_SET_DUMPABLE, 0);
    }
    return e;
}

int nice_value(const conduct_plan& p) noexcept {
    return p.set_nice ? error_of(raw_call(SYS_setpriority, PRIO_PROCESS, 0, p.nice)) : 0;
}

int scheduler(const conduct_plan& p) noexcept {
    if (!p.set_scheduler) return 0;
    sched_param parameter{};
    parameter.sched_priority = p.scheduler_priority;
    return error_of(raw_call(SYS_sched_setscheduler, 0, p.scheduler_policy, &parameter));
}

int affinity(const conduct_plan& p) noexcept {
    return p.cpus != nullptr ? error_of(raw_call(SYS_sched_setaffinity, 0, p.cpus_size, p.cpus))
                             : 0;
}

int limits(const conduct_plan& p, int& index) noexcept {
    for (std::size_t i = 0; i < p.limit_count; ++i) {
        index = static_cast<int>(i);
        const resource_limit& l = p.limits[i];
        if (const int e = error_of(raw_call(SYS_prlimit64, 0, l.resource, &l.value, nullptr)))
            return e;
    }
    return 0;
}

// Everything of a conduct_plan. `index`: which limit.
failed_change change_conduct(const conduct_plan& p, int& index) noexcept {
    if (const int e = oom_score_adj(p)) return {step::oom_score_adj, e};
    if (const int e = nice_value(p)) return {step::nice, e};
    if (const int e = scheduler(p)) return {step::scheduler, e};
    if (const int e = affinity(p)) return {step::affinity, e};
    if (const int e = limits(p, index)) return {step::rlimit, e};
    index = -1;
    return {};
}

// The caller may stand in a directory that it could not enter now, and so may its child. When
// this fails, the step chdir tells.
failed_change become_caller(const plan& p) noexcept {
    if (p.becomes_caller && p.cwd_is_callers && !p.set_uid && p.cwd_fd >= 0)
        raw_call(SYS_fchdir, p.cwd_fd);
    int which_limit = -1;
    if (const auto f = change_conduct(p.caller_conduct, which_limit); f.error_number != 0) return f;
    return p.becomes_caller ? change_credentials(p.caller) : failed_change{};
}

// True when `fd` is where this process is. It asks for no permission to search.
bool is_working_directory(int fd) noexcept {
    struct stat wanted {
    }, here{};
    return raw_call(SYS_newfstatat, fd, "", &wanted, AT_EMPTY_PATH) == 0 &&
           raw_call(SYS_newfstatat, AT_FDCWD, "", &here, AT_EMPTY_PATH) == 0 &&
           wanted.st_dev == here.st_dev && wanted.st_ino == here.st_ino;
}

// The child's user must be able to enter it, unless it is there.
int enter(int directory) noexcept {
    const int error = error_of(raw_call(SYS_fchdir, directory));
    return error == EACCES && is_working_directory(directory) ? 0 : error;
}

// After the credentials.
int change_directory(const plan& p) noexcept {
    if (p.cwd_error != 0) return p.cwd_error;
    if (p.cwd_fd >= 0)
        if (const int error = enter(p.cwd_fd)) return error;
    return p.cwd_path != nullptr ? error_of(raw_call(SYS_chdir, p.cwd_path)) : 0;
}

// After the credentials too, since changing them clears it. The parent may have
// died before the call: then nobody would send the signal.
int parent_death_signal(const plan& p) noexcept {
    if (p.parent_death_signal == 0) return 0;
    if (const int e = error_of(raw_call(SYS_prctl, PR_SET_PDEATHSIG, p.parent_death_signal)))
        return e;
    return raw_call(SYS_getppid) == p.parent ? 0 : ESRCH;
}

// As sigaction(2) of the kernel has it, with room for each machine's order.
struct kernel_sigaction {
    void* handler;
    std::uint64_t rest[3];
};

// A child of a template may have handlers: they are the decision of its imports.
void ignore_signals(const plan& p) noexcept {
    if (p.ignored_signals == 0) return;
    constexpr std::size_t k_set_size = 8;
    const kernel_sigaction ignored{reinterpret_cast<void*>(SIG_IGN), {}};
    for (int s = 1; s <= 64; ++s) {
        kernel_sigaction now{};
        if ((p.ignored_signals >> (s - 1) & 1) != 0 &&
            raw_call(SYS_rt_sigaction, s, nullptr, &now, k_set_size) == 0 &&
            now.handler == reinterpret_cast<void*>(SIG_DFL))
            raw_call(SYS_rt_sigaction, s, &ignored, nullptr, k_set_size);
    }
}

// Last before exec: a signal that was waiting is for the program to die of.
int signal_mask() noexcept {
    const std::uint64_t none = 0;
    return error_of(raw_call(SYS_rt_sigprocmask, SIG_SETMASK, &none, nullptr, sizeof none));
}

// As execvp(3): what a later directory may still cure goes on, and a program
// found but not permitted is told as that.
int execute(const plan& p) noexcept {
    if (p.program_fd >= 0) {
        return error_of(raw_call(SYS_execveat, p.program_fd, "", p.argv, p.envp, AT_EMPTY_PATH));
    }
    int refused = 0;
    for (const char* const* c = p.candidates; *c != nullptr; ++c) {
        const int error = error_of(raw_call(SYS_execve, *c, p.argv, p.envp));
        switch (error) {
            case EACCES: refused = EACCES; break;
            case ENOENT:
            case ENOTDIR:
            case ESTALE:
            case ENODEV:
            case ETIMEDOUT: break;
            default: return error;
        }
        if (p.candidates[1] == nullptr) return error;  // a path, not a search
    }
    return refused != 0 ? refused : ENOENT;
}

void tell(child_report& r, step s, int error, int index) noexcept {
    r.error_number = error;
    r.index = index;
    r.failed_step = static_cast<std::uint32_t>(s);
}

}  // namespace

bool apply_steps(const child_context& c) noexcept {
    plan& p = *c.p;
    int index = -1;
    const auto failed = [&](step s, int e) noexcept {
        if (e == 0) {
            index = -1;
            return false;
        }
        tell(*c.report, s, e, index);
        return true;
    };
    const auto at = [&](step s) noexcept { c.report->at = static_cast<std::uint32_t>(s); };
    const auto failed_change_of = [&](const failed_change& f) noexcept {
        return failed(f.at, f.error_number);
    };
    if (c.channel >= 0 && p.cwd_at_once) {
        p.cwd_error = enter(p.cwd_fd);
        p.cwd_fd = -1;
    }
    // Before all else: what of the table is shared is the parent's, who goes on and changes it.
    at(step::close_descriptors);
    if (c.execs && failed(step::close_descriptors, close_descriptors(c))) return false;
    at(step::descriptors);
    if (failed(step::descriptors, receive_descriptors(c))) return false;
    at(step::cgroup);
    if (!p.becomes_caller && failed(step::cgroup, join_cgroup(p))) return false;
    at(step::descriptors);
    if (failed(step::descriptors, place_descriptors(p, index))) return false;
    if (failed(step::session, session(p))) return false;
    if (failed(step::process_group, process_group(p))) return false;
    if (failed(step::controlling_terminal, controlling_terminal(p))) return false;
    at(step::identity);
    const failed_change other = become_caller(p);
    index = static_cast<int>(other.at);
    if (failed(step::identity, other.error_number)) return false;
    if (p.becomes_caller && failed(step::cgroup, join_cgroup(p))) return false;
    if (failed_change_of(change_conduct(p, index))) return false;
    if (p.set_umask) raw_call(SYS_umask, p.umask);  // cannot fail
    if (failed_change_of(change_credentials(p))) return false;
    at(step::chdir);
    if (failed(step::chdir, change_directory(p))) return false;
    if (failed(step::parent_death_signal, parent_death_signal(p))) return false;
    ignore_signals(p);
    return !failed(step::signal_mask, signal_mask());
}

namespace {

// What the kernel does with a lock whose owner is no more: at the exit, and as well at an exec,
// when this memory is left behind (exec_mm_release() of kernel/fork.c), it marks the word and
// wakes who waits for it. See get_robust_list(2); the list is of one lock.
void announce_end(child_report& r) noexcept {
    r.lock.next = &r.head.list;
    r.head.list.next = &r.lock;
    r.head.futex_offset = offsetof(child_report, begun) - offsetof(child_report, lock);
    r.head.list_op_pending = nullptr;
    r.begun.fetch_or(FUTEX_WAITERS, std::memory_order_release);
    raw_call(SYS_set_robust_list, &r.head, sizeof r.head);
}

}  // namespace

// Not for ASan: it would look for the stack of the thread, and this is none.
[[gnu::no_sanitize_address]] int run_child(void* context) noexcept {
    auto& c = *static_cast<child_context*>(context);
    announce_end(*c.report);
    if (apply_steps(c)) {
        if (c.p->listen_pid != nullptr) write_decimal(c.p->listen_pid, raw_call(SYS_getpid));
        c.report->at = static_cast<std::uint32_t>(step::exec);
        tell(*c.report, step::exec, execute(*c.p), -1);
    }
    for (;;) raw_call(SYS_exit_group, 127);
}

}  // namespace cleanfork::spawn
