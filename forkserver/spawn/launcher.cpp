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
#include "ipc/base/left_alone.hpp"
#include "ipc/base/raw_call.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::spawn {

namespace {

// As many as the kernel copies at least, where it copies more than it has to (before Linux 6.12).
constexpr int k_reserved = 64;

#if defined(__SANITIZE_ADDRESS__)
constexpr bool k_is_sanitized = true;
#elif defined(__has_feature)
constexpr bool k_is_sanitized = __has_feature(address_sanitizer);
#else
constexpr bool k_is_sanitized = false;
#endif

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
    l.own_from_ = static_cast<int>(std::min<rlim_t>(k_reserved, now.rlim_cur / 4));
    l.null_.reset(::open("/dev/null", O_RDWR | O_CLOEXEC));
    if (!l.null_) return ipc::fail(step::launch, errno, "/dev/null");
    l.places_ = std::make_shared<birth_places>();
    if (l.unshare_) l.unshare_ = l.places_->reserve(l.null_.get(), l.own_from_);
    l.self_.null_fd = l.unshare_ ? l.places_->null() : l.null_.get();
    l.self_.descriptor_limit = {soft_descriptor_limit, now.rlim_max};
    l.self_.restore_descriptor_limit = soft_descriptor_limit != now.rlim_cur;
    l.self_.privileged = ::geteuid() == 0;
    l.self_.clone_into_cgroup = features.has(ipc::feature::clone_into_cgroup);
    l.self_.execveat = features.has(ipc::feature::execveat);
    l.self_.pid = ::getpid();
    // Under a low limit there is no descriptor to spare.
    const bool has_few = l.own_from_ < k_reserved;
    if (auto kept = l.places_->keep(has_few ? 1 : usual_births()); !kept) return kept.error();
    return l;
}

unique_fd launcher::own_descriptor(unique_fd fd) const noexcept {
    const int number = fd.get();
    unique_fd moved = ipc::move_up(std::move(fd), own_from_);
    if (moved.get() != number) places_->reserve_again(null_.get(), number);
    return moved;
}

void launcher::dispose_by(shared_disposal disposal) const {
    places_->dispose_by(std::move(disposal));
}

void launcher::dispose(std::vector<unique_fd> fds) const noexcept {
    places_->dispose(std::move(fds));
}

// Not where the child may be killed for want of memory in another cgroup than the forkserver's:
// the kernel ends with it whoever shares that memory. Nor where its scheduling is to be another:
// who is hardly ever run would hold locks of that memory. Nor where oom_score_adj is to be another:
// the kernel gives it to all who share that memory, but for vfork (__set_oom_adj() of
// fs/proc/base.c), and on the way to it the flag may be lifted that keeps others from reading it.
// Nor under AddressSanitizer, whose notes of the stack are the thread's, and the child has none.
bool launcher::shares_memory(const plan& p) noexcept {
    if (k_is_sanitized) return false;
    const auto hinders = [](const conduct_plan& c) {
        return c.set_scheduler || c.set_oom_score_adj;
    };
    return p.cgroup_fd < 0 && !hinders(p) && !hinders(p.caller_conduct);
}

namespace {

bool is_born_in_cgroup(const plan& p) noexcept { return p.cgroup_fd >= 0 && !p.join_cgroup; }

int clone_sharing_memory(child_context& context, void* stack, int& pidfd) {
    int flags = CLONE_VM | CLONE_PIDFD | CLONE_CHILD_SETTID | SIGCHLD;
    if (!ipc::k_has_raw_call) flags |= CLONE_VFORK;  // for the sake of errno
    if (context.channel >= 0) flags |= CLONE_FILES;
    return ::clone(&run_child, static_cast<char*>(stack) + k_stack_size, flags, &context, &pidfd,
                   nullptr, &context.report->begun);
}

// This copies the memory map, like fork.
int clone_copying_memory(child_context& context, bool into_cgroup, int& pidfd) {
    const int flags = CLONE_PIDFD | CLONE_CHILD_SETTID | (context.channel >= 0 ? CLONE_FILES : 0);
    void* const tid = &context.report->begun;
    long pid = 0;
    if (into_cgroup) {
        clone_args args{};
        args.flags = static_cast<std::uint64_t>(flags) | CLONE_INTO_CGROUP;
        args.exit_signal = SIGCHLD;
        args.pidfd = reinterpret_cast<std::uintptr_t>(&pidfd);
        args.child_tid = reinterpret_cast<std::uintptr_t>(tid);
        args.cgroup = static_cast<std::uint64_t>(context.p->cgroup_fd);
        pid = ::syscall(SYS_clone3, &args, sizeof args);
    } else {
        // Machines differ in which of the last two it is; the other is not looked at.
        pid = ::syscall(SYS_clone, flags | SIGCHLD, nullptr, &pidfd, tid, tid);
    }
    if (pid == 0) run_child(&context);
    return static_cast<int>(pid);
}

}  // namespace

int launcher::clone(birth& b, const plan& p) const {
    birth_place& place = *b.place_;
    int pidfd = -1;
    b.started_ns_ = ipc::monotonic_ns();
    const int pid = shares_memory(p)
                        ? clone_sharing_memory(place.context(), place.stack(), pidfd)
                        : clone_copying_memory(place.context(), is_born_in_cgroup(p), pidfd);
    if (pid < 0) return errno;
    b.process_ = ipc::process_ref(pid, unique_fd(pidfd));
    return 0;
}

result<std::unique_ptr<birth>> launcher::begin(prepared& p) {
    std::unique_ptr<birth> b(new birth);
    auto place = places_->take();
    if (!place) return place.error();
    b->places_ = places_;
    b->place_ = std::move(*place);
    b->borrowed_ = &p;
    b->done_ = true;  // should there be none
    b->place_->context() = {.p = &p.plan,
                            .report = &b->place_->report(),
                            .channel = b->place_->channel(),
                            .lowest_channel = self_.null_fd + 1};
    if (unshare_)
        if (const int e = b->place_->send(p.plan))
            return ipc::fail(step::prepare, e, "descriptors");
    if (const int e = clone(*b, p.plan)) {
        if (is_born_in_cgroup(p.plan) && is_about_cgroup(e))
            return ipc::fail(step::cgroup, e, p.object_of(step::cgroup, -1));
        return ipc::fail(step::clone, e, {});
    }
    b->done_ = false;
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

// False after `most`, or when something else has woken it.
bool sleep_while(std::atomic<std::uint32_t>& word, std::uint32_t value,
                 std::chrono::nanoseconds most) noexcept {
    const auto s = std::chrono::duration_cast<std::chrono::seconds>(most);
    const timespec limit{s.count(), (most - s).count()};
    return ::syscall(SYS_futex, &word, FUTEX_WAIT, value, &limit, nullptr, 0) == 0;
}

}  // namespace

birth::~birth() {
    if (!place_) return;
    if (done_) {
        places_->give_back(std::move(place_));
        return;
    }
    process_.signal(SIGKILL);
    ipc::leave_alone(place_.release());
    ipc::leave_alone(plan_.release());
}

bool birth::wait(std::chrono::nanoseconds most) noexcept {
    auto& word = place_->report().begun;
    const std::uint64_t began = ipc::monotonic_ns();
    while (!done_) {
        const std::uint32_t now = word.load(std::memory_order_acquire);
        if (has_told()) break;
        const auto left = most - std::chrono::nanoseconds(ipc::monotonic_ns() - began);
        if (left.count() > 0 && (sleep_while(word, now, left) || errno == EAGAIN)) continue;
        if (left.count() > 0 && errno == EINTR) continue;
        // One that was killed before its first step has announced nothing.
        done_ = ipc::pidfd_wait(process_.pidfd(), ipc::pidfd_event::ended, 0);
        break;
    }
    return done_;
}

bool birth::has_told() noexcept {
    if ((place_->report().begun.load(std::memory_order_acquire) & FUTEX_OWNER_DIED) != 0)
        done_ = true;
    return done_;
}

bool birth::failed() const noexcept { return place_->report().failed_step != 0; }

failure birth::why() const {
    const child_report& r = place_->report();
    const auto at = static_cast<step>(r.failed_step);
    return ipc::fail(at, r.error_number, borrowed_->object_of(at, r.index));
}

step birth::at() const noexcept { return static_cast<step>(place_->report().at); }

}  // namespace cleanfork::spawn
