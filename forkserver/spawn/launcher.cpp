#include "forkserver/spawn/launcher.hpp"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "forkserver/spawn/steps.hpp"
#include "ipc/base/fd.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::spawn {

namespace {

// The steps need a few hundred bytes; execve of the sanitizer builds needs more.
constexpr std::size_t k_stack_size = 128 * 1024;
constexpr std::size_t k_page = 4096;
constexpr int k_own_descriptors_from = 1024;

// Which of clone3's errors speak of the cgroup (clone(2), EBUSY and below; ENOENT
// is one that was removed).
bool is_about_cgroup(int e) noexcept {
    return e == ENOENT || e == EBUSY || e == EOPNOTSUPP || e == EBADF || e == EACCES ||
           e == ENODEV || e == EPERM;
}

}  // namespace

result<launcher> launcher::create(const ipc::feature_set& features,
                                  std::uint64_t soft_descriptor_limit) {
    launcher l;
    l.unshare_ = features.has(ipc::feature::close_range_unshare);
    rlimit now{};
    ::getrlimit(RLIMIT_NOFILE, &now);
    l.own_from_ = std::min(k_own_descriptors_from, static_cast<int>(now.rlim_cur / 4));
    l.null_.reset(::open("/dev/null", O_RDWR | O_CLOEXEC));
    if (!l.null_) return ipc::fail(step::launch, errno, "/dev/null");
    l.stack_ = ::mmap(nullptr, k_stack_size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (l.stack_ == MAP_FAILED) {
        l.stack_ = nullptr;
        return ipc::fail(step::launch, ENOMEM, "the child's stack");
    }
    l.report_ = ::mmap(nullptr, k_page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (l.report_ == MAP_FAILED) {
        l.report_ = nullptr;
        return ipc::fail(step::launch, ENOMEM, "the report page");
    }
    l.self_.null_fd = l.null_.get();
    l.self_.descriptor_limit = {soft_descriptor_limit, now.rlim_max};
    l.self_.restore_descriptor_limit = soft_descriptor_limit != now.rlim_cur;
    l.self_.privileged = ::geteuid() == 0;
    l.self_.clone_into_cgroup = features.has(ipc::feature::clone_into_cgroup);
    l.self_.execveat = features.has(ipc::feature::execveat);
    l.self_.pid = ::getpid();
    return l;
}

launcher::launcher(launcher&& other) noexcept
    : self_(other.self_),
      null_(std::move(other.null_)),
      stack_(std::exchange(other.stack_, nullptr)),
      report_(std::exchange(other.report_, nullptr)),
      own_from_(other.own_from_),
      unshare_(other.unshare_) {}

launcher::~launcher() {
    if (stack_ != nullptr) ::munmap(stack_, k_stack_size);
    if (report_ != nullptr) ::munmap(report_, k_page);
}

unique_fd launcher::own_descriptor(unique_fd fd) const noexcept {
    return ipc::move_up(std::move(fd), own_from_);
}

// The parent sleeps until the child has exec'ed or ended: nothing of the memory
// they share changes under either.
int launcher::clone_sharing_memory(child_context& context, int& pidfd) const {
    int flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD;
    if (context.shares_table) flags |= CLONE_FILES;
    return ::clone(&run_child, static_cast<char*>(stack_) + k_stack_size, flags, &context, &pidfd);
}

// clone3 has no wrapper that gives the child a stack of its own, so this one
// copies the memory map, like fork.
int launcher::clone_into_cgroup(child_context& context, int& pidfd) {
    clone_args args{};
    args.flags = CLONE_VFORK | CLONE_PIDFD | CLONE_INTO_CGROUP;
    if (context.shares_table) args.flags |= CLONE_FILES;
    args.exit_signal = SIGCHLD;
    args.pidfd = reinterpret_cast<std::uintptr_t>(&pidfd);
    args.cgroup = static_cast<std::uint64_t>(context.p->cgroup_fd);
    const long pid = ::syscall(SYS_clone3, &args, sizeof args);
    if (pid == 0) run_child(&context);
    return static_cast<int>(pid);
}

result<spawned> launcher::launch(prepared& p) {
    auto& report = *static_cast<child_report*>(report_);
    report = {};
    const bool into_cgroup = p.plan.cgroup_fd >= 0 && !p.plan.join_cgroup;
    child_context context{.p = &p.plan, .report = &report, .shares_table = unshare_};
    spawned s;
    int pidfd = -1;
    s.started_ns = ipc::monotonic_ns();
    const int pid =
        into_cgroup ? clone_into_cgroup(context, pidfd) : clone_sharing_memory(context, pidfd);
    if (pid < 0) {
        const int e = errno;
        if (into_cgroup && is_about_cgroup(e))
            return ipc::fail(step::cgroup, e, p.object_of(step::cgroup, -1));
        return ipc::fail(step::clone, e, {});
    }
    s.process = {pid, unique_fd(pidfd)};
    if (report.failed_step == 0) {
        s.process = own_process(std::move(s.process));
        return s;
    }
    (void)s.process.reap(0);
    const auto failed = static_cast<step>(report.failed_step);
    return ipc::fail(failed, report.error_number, p.object_of(failed, report.index));
}

}  // namespace cleanfork::spawn
