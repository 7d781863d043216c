#include "forkserver/spawn/launcher.hpp"

#include <fcntl.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "forkserver/spawn/birth_places.hpp"
#include "ipc/base/fd.hpp"
#include "ipc/base/raw_call.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::spawn {

namespace {

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
    l.places_ = std::make_shared<birth_places>();
    l.self_.null_fd = l.null_.get();
    l.self_.descriptor_limit = {soft_descriptor_limit, now.rlim_max};
    l.self_.restore_descriptor_limit = soft_descriptor_limit != now.rlim_cur;
    l.self_.privileged = ::geteuid() == 0;
    l.self_.clone_into_cgroup = features.has(ipc::feature::clone_into_cgroup);
    l.self_.execveat = features.has(ipc::feature::execveat);
    l.self_.pid = ::getpid();
    return l;
}

unique_fd launcher::own_descriptor(unique_fd fd) const noexcept {
    return ipc::move_up(std::move(fd), own_from_);
}

// Not where the child may be killed for want of memory in another cgroup than the forkserver's:
// the kernel ends with it whoever shares that memory. Nor where its scheduling is to be another:
// who is hardly ever run would hold locks of that memory. Nor where oom_score_adj is to be another:
// the kernel gives it to all who share that memory, but for vfork (__set_oom_adj() of
// fs/proc/base.c), and on the way to it the flag may be lifted that keeps others from reading it.
bool launcher::shares_memory(const plan& p) noexcept {
    const auto hinders = [](const conduct_plan& c) {
        return c.set_scheduler || c.set_oom_score_adj;
    };
    return p.cgroup_fd < 0 && !hinders(p) && !hinders(p.caller_conduct);
}

namespace {

int clone_sharing_memory(child_context& context, void* stack, int& pidfd) {
    int flags = CLONE_VM | CLONE_PIDFD | SIGCHLD;
    if (!ipc::k_has_raw_call) flags |= CLONE_VFORK;  // for the sake of errno
    if (context.shares_table) flags |= CLONE_FILES;
    return ::clone(&run_child, static_cast<char*>(stack) + k_stack_size, flags, &context, &pidfd);
}

// This copies the memory map, like fork.
int clone_copying_memory(child_context& context, bool into_cgroup, int& pidfd) {
    const int flags = CLONE_PIDFD | (context.shares_table ? CLONE_FILES : 0);
    long pid = 0;
    if (into_cgroup) {
        clone_args args{};
        args.flags = static_cast<std::uint64_t>(flags) | CLONE_INTO_CGROUP;
        args.exit_signal = SIGCHLD;
        args.pidfd = reinterpret_cast<std::uintptr_t>(&pidfd);
        args.cgroup = static_cast<std::uint64_t>(context.p->cgroup_fd);
        pid = ::syscall(SYS_clone3, &args, sizeof args);
    } else {
        pid = ::syscall(SYS_clone, flags | SIGCHLD, nullptr, &pidfd, nullptr, nullptr);
    }
    if (pid == 0) run_child(&context);
    return static_cast<int>(pid);
}

}  // namespace

result<std::unique_ptr<birth>> launcher::begin(prepared& p) {
    std::unique_ptr<birth> b(new birth);
    auto place = places_->take();
    if (!place) return place.error();
    b->places_ = places_;
    b->place_ = *place;
    b->borrowed_ = &p;
    place_parts parts(*place);
    const bool into_cgroup = p.plan.cgroup_fd >= 0 && !p.plan.join_cgroup;
    auto& context = parts.context();
    context = {.p = &p.plan, .report = &parts.report(), .shares_table = unshare_};
    int pidfd = -1;
    b->started_ns_ = ipc::monotonic_ns();
    const int pid = shares_memory(p.plan) ? clone_sharing_memory(context, parts.stack(), pidfd)
                                          : clone_copying_memory(context, into_cgroup, pidfd);
    if (pid < 0) {
        const int e = errno;
        b->done_ = true;
        if (into_cgroup && is_about_cgroup(e))
            return ipc::fail(step::cgroup, e, p.object_of(step::cgroup, -1));
        return ipc::fail(step::clone, e, {});
    }
    b->process_ = own_process({pid, unique_fd(pidfd)});
    return b;
}

result<std::unique_ptr<birth>> launcher::begin(std::unique_ptr<prepared> p) {
    auto b = begin(*p);
    if (b) (*b)->plan_ = std::move(p);
    return b;
}

result<spawned> launcher::launch(prepared& p) {
    auto b = begin(p);
    if (!b) return b.error();
    while (!(*b)->wait(std::chrono::seconds(1))) {
    }
    if (!(*b)->failed()) return spawned{std::move((*b)->process()), (*b)->started_ns()};
    (void)(*b)->process().reap(0);
    return (*b)->why();
}

// ---- births ------------------------------------------------------------------

namespace {

child_report& report_of(void* place) noexcept { return place_parts(place).report(); }

// False after `most`, or when something else has woken it.
bool sleep_while(std::atomic<std::uint32_t>& word, std::uint32_t value,
                 std::chrono::nanoseconds most) noexcept {
    const auto s = std::chrono::duration_cast<std::chrono::seconds>(most);
    const timespec limit{s.count(), (most - s).count()};
    return ::syscall(SYS_futex, &word, FUTEX_WAIT, value, &limit, nullptr, 0) == 0;
}

}  // namespace

birth::~birth() {
    if (place_ == nullptr) return;
    if (done_) {
        places_->give_back(place_);
        return;
    }
    process_.signal(SIGKILL);
    (void)plan_.release();
}

bool birth::wait(std::chrono::nanoseconds most) noexcept {
    auto& word = report_of(place_).begun;
    const std::uint64_t began = ipc::monotonic_ns();
    while (!done_) {
        const std::uint32_t now = word.load(std::memory_order_acquire);
        done_ = (now & FUTEX_OWNER_DIED) != 0;
        if (done_) break;
        const auto left = most - std::chrono::nanoseconds(ipc::monotonic_ns() - began);
        if (left.count() > 0 && (sleep_while(word, now, left) || errno == EAGAIN)) continue;
        if (left.count() > 0 && errno == EINTR) continue;
        // One that was killed before its first step has announced nothing.
        done_ = ipc::pidfd_wait(process_.pidfd(), ipc::pidfd_event::ended, 0);
        break;
    }
    return done_;
}

bool birth::failed() const noexcept { return report_of(place_).failed_step != 0; }

failure birth::why() const {
    const child_report& r = report_of(place_);
    const auto at = static_cast<step>(r.failed_step);
    return ipc::fail(at, r.error_number, borrowed_->object_of(at, r.index));
}

step birth::at() const noexcept { return static_cast<step>(report_of(place_).at); }

}  // namespace cleanfork::spawn
