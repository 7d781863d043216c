#include "forkserver/spawn/steps.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <csignal>

#include "forkserver/spawn/credentials.hpp"
#include "ipc/base/close_others.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::spawn {

namespace {

constexpr unsigned k_close_range_unshare = 1U << 1;
constexpr unsigned k_close_range_cloexec = 1U << 2;

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
    const int fd = ::openat(directory, path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return errno;
    const int e = error_of(::write(fd, text, size));
    ::close(fd);
    return e;
}

int join_cgroup(const plan& p) noexcept {
    if (!p.join_cgroup) return 0;
    return write_file(p.cgroup_fd, "cgroup.procs", "0", 1);
}

// With a shared table this also takes a private copy of what is below
// close_from; nothing above was ever copied. What is left of others' below is
// CLOEXEC, as every descriptor of the forkserver is from its birth.
int close_descriptors(const child_context& c) noexcept {
    const unsigned flags = c.shares_table ? k_close_range_unshare : k_close_range_cloexec;
    const long r = ::syscall(SYS_close_range, static_cast<unsigned>(c.p->close_from), ~0U, flags);
    // Without close_range (before Linux 5.9) CLOEXEC at birth does it alone.
    if (r < 0 && !c.shares_table && (ipc::is_missing(errno) || errno == EINVAL)) return 0;
    return error_of(r);
}

int move_away(int& fd, int highest_target) noexcept {
    const int moved = ::fcntl(fd, F_DUPFD_CLOEXEC, highest_target + 1);
    if (moved < 0) return errno;
    fd = moved;
    return 0;
}

// Sources whose number is a target go above all targets first, so that swaps
// and cycles work; then each is put in its place.
int place_descriptors(plan& p, int& index) noexcept {
    for (std::size_t i = 0; i < p.move_count; ++i) {
        index = static_cast<int>(i);
        descriptor_move& m = p.moves[i];
        if (!m.collides) continue;
        if (const int e = move_away(m.source, p.highest_target)) return e;
    }
    for (std::size_t i = 0; i < p.move_count; ++i) {
        index = static_cast<int>(i);
        const descriptor_move& m = p.moves[i];
        const long r =
            m.source == m.target ? ::fcntl(m.target, F_SETFD, 0) : ::dup2(m.source, m.target);
        if (const int e = error_of(r)) return e;
    }
    return 0;
}

// The descriptors the later steps use are no one's target after this.
int keep_tools(plan& p) noexcept {
    int joined_later = p.becomes_caller && p.join_cgroup ? p.cgroup_fd : -1;
    for (int* fd : {&p.cwd_fd, &p.program_fd, &joined_later})
        for (std::size_t i = 0; *fd >= 0 && i < p.move_count; ++i)
            if (p.moves[i].target == *fd) {
                if (const int e = move_away(*fd, p.highest_target)) return e;
                break;
            }
    if (joined_later >= 0) p.cgroup_fd = joined_later;
    return 0;
}

int descriptors(plan& p, int& index) noexcept {
    if (const int e = keep_tools(p)) return e;
    return place_descriptors(p, index);
}

int session(const plan& p) noexcept { return p.new_session ? error_of(::setsid()) : 0; }

int process_group(const plan& p) noexcept {
    if (p.new_session || !p.set_process_group) return 0;
    return error_of(::setpgid(0, p.process_group));
}

int controlling_terminal(const plan& p) noexcept {
    if (p.controlling_terminal < 0) return 0;
    return error_of(::ioctl(p.controlling_terminal, TIOCSCTTY, 0));
}

// The forkserver is not dumpable, which makes /proc/self root's: for one that
// is not root the flag of the shared memory is lifted for this one write.
int oom_score_adj(const conduct_plan& p) noexcept {
    if (!p.set_oom_score_adj) return 0;
    char text[12];
    const std::size_t size = write_decimal(text, p.oom_score_adj);
    int e = write_file(AT_FDCWD, "/proc/self/oom_score_adj", text, size);
    if (e == EACCES && ::prctl(PR_GET_DUMPABLE) == 0) {
        ::prctl(PR_SET_DUMPABLE, 1);
        e = write_file(AT_FDCWD, "/proc/self/oom_score_adj", text, size);
        ::prctl(PR_SET_DUMPABLE, 0);
    }
    return e;
}

int nice_value(const conduct_plan& p) noexcept {
    return p.set_nice ? error_of(::setpriority(PRIO_PROCESS, 0, p.nice)) : 0;
}

int scheduler(const conduct_plan& p) noexcept {
    if (!p.set_scheduler) return 0;
    sched_param parameter{};
    parameter.sched_priority = p.scheduler_priority;
    return error_of(::sched_setscheduler(0, p.scheduler_policy, &parameter));
}

int affinity(const conduct_plan& p) noexcept {
    return p.cpus != nullptr ? error_of(::sched_setaffinity(0, p.cpus_size, p.cpus)) : 0;
}

int limits(const conduct_plan& p, int& index) noexcept {
    for (std::size_t i = 0; i < p.limit_count; ++i) {
        index = static_cast<int>(i);
        const resource_limit& l = p.limits[i];
        if (::setrlimit(static_cast<__rlimit_resource_t>(l.resource), &l.value) != 0) return errno;
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
    if (p.becomes_caller && p.cwd_is_callers && !p.set_uid && p.cwd_fd >= 0) [[maybe_unused]]
        const int entered = ::fchdir(p.cwd_fd);
    int which_limit = -1;
    if (const auto f = change_conduct(p.caller_conduct, which_limit); f.error_number != 0) return f;
    return p.becomes_caller ? change_credentials(p.caller) : failed_change{};
}

// True when `fd` is where this process is. It asks for no permission to search.
bool is_working_directory(int fd) noexcept {
    struct stat wanted {
    }, here{};
    return ::fstat(fd, &wanted) == 0 && ::fstatat(AT_FDCWD, "", &here, AT_EMPTY_PATH) == 0 &&
           wanted.st_dev == here.st_dev && wanted.st_ino == here.st_ino;
}

// After the credentials: the child's user must be able to enter it, unless it is there.
int change_directory(const plan& p) noexcept {
    if (p.cwd_fd >= 0 && ::fchdir(p.cwd_fd) != 0) {
        const int error = errno;
        if (error != EACCES || !is_working_directory(p.cwd_fd)) return error;
    }
    return p.cwd_path != nullptr ? error_of(::chdir(p.cwd_path)) : 0;
}

// After the credentials too, since changing them clears it. The parent may have
// died before the call: then nobody would send the signal.
int parent_death_signal(const plan& p) noexcept {
    if (p.parent_death_signal == 0) return 0;
    if (::prctl(PR_SET_PDEATHSIG, p.parent_death_signal) != 0) return errno;
    return ::getppid() == p.parent ? 0 : ESRCH;
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
            ::syscall(SYS_rt_sigaction, s, nullptr, &now, k_set_size) == 0 &&
            now.handler == reinterpret_cast<void*>(SIG_DFL))
            ::syscall(SYS_rt_sigaction, s, &ignored, nullptr, k_set_size);
    }
}

// Last before exec: a signal that was waiting is for the program to die of.
int signal_mask() noexcept {
    const std::uint64_t none = 0;
    return error_of(::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, nullptr, sizeof none));
}

// As execvp(3): what a later directory may still cure goes on, and a program
// found but not permitted is told as that.
int execute(const plan& p) noexcept {
    if (p.program_fd >= 0) {
        ::syscall(SYS_execveat, p.program_fd, "", p.argv, p.envp, AT_EMPTY_PATH);
        return errno;
    }
    int refused = 0;
    for (const char* const* c = p.candidates; *c != nullptr; ++c) {
        ::execve(*c, p.argv, p.envp);
        switch (errno) {
            case EACCES: refused = EACCES; break;
            case ENOENT:
            case ENOTDIR:
            case ESTALE:
            case ENODEV:
            case ETIMEDOUT: break;
            default: return errno;
        }
        if (p.candidates[1] == nullptr) return errno;  // a path, not a search
    }
    return refused != 0 ? refused : ENOENT;
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
        *c.report = {static_cast<std::uint32_t>(s), e, index};
        return true;
    };
    const auto failed_change_of = [&](const failed_change& f) noexcept {
        return failed(f.at, f.error_number);
    };
    if (!p.becomes_caller && failed(step::cgroup, join_cgroup(p))) return false;
    if (c.execs && failed(step::close_descriptors, close_descriptors(c))) return false;
    if (failed(step::descriptors, descriptors(p, index))) return false;
    if (failed(step::session, session(p))) return false;
    if (failed(step::process_group, process_group(p))) return false;
    if (failed(step::controlling_terminal, controlling_terminal(p))) return false;
    const failed_change other = become_caller(p);
    index = static_cast<int>(other.at);
    if (failed(step::identity, other.error_number)) return false;
    if (p.becomes_caller && failed(step::cgroup, join_cgroup(p))) return false;
    if (failed_change_of(change_conduct(p, index))) return false;
    if (p.set_umask) ::umask(p.umask);  // cannot fail
    if (failed_change_of(change_credentials(p))) return false;
    if (failed(step::chdir, change_directory(p))) return false;
    if (failed(step::parent_death_signal, parent_death_signal(p))) return false;
    ignore_signals(p);
    return !failed(step::signal_mask, signal_mask());
}

namespace {

int close_from_to(unsigned first, unsigned last) noexcept {
    if (first > last || ::syscall(SYS_close_range, first, last, 0U) == 0) return 0;
    if (!ipc::is_missing(errno)) return errno;
    ipc::close_one_by_one(static_cast<int>(first),
                          static_cast<int>(std::min(last, unsigned{INT_MAX})));
    return 0;
}

}  // namespace

int close_unmapped(plan& p, std::span<const int> kept, std::span<const int> own) noexcept {
    std::sort(
        p.moves, p.moves + p.move_count,
        [](const descriptor_move& a, const descriptor_move& b) { return a.target < b.target; });
    unsigned next = 0;
    std::size_t at = 0;
    for (;;) {
        // The lowest of what stays, from `next` on.
        unsigned stays = ~0U;
        while (at < p.move_count && static_cast<unsigned>(p.moves[at].target) < next) ++at;
        if (at < p.move_count) stays = static_cast<unsigned>(p.moves[at].target);
        for (const std::span<const int> fds : {kept, own})
            for (const int fd : fds)
                if (fd >= 0 && static_cast<unsigned>(fd) >= next)
                    stays = std::min(stays, static_cast<unsigned>(fd));
        if (stays == ~0U) return close_from_to(next, ~0U);
        if (stays > next)
            if (const int e = close_from_to(next, stays - 1)) return e;
        next = stays + 1;
    }
}

// Not for ASan: it would look for the stack of the thread, and this is none.
[[gnu::no_sanitize_address]] int run_child(void* context) noexcept {
    auto& c = *static_cast<child_context*>(context);
    if (apply_steps(c)) {
        if (c.p->listen_pid != nullptr) write_decimal(c.p->listen_pid, ::getpid());
        const int e = execute(*c.p);
        *c.report = {static_cast<std::uint32_t>(step::exec), e, -1};
    }
    ::_exit(127);
}

}  // namespace cleanfork::spawn
