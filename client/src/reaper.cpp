#include "client/src/reaper.hpp"

#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <sstream>
#include <string>

#include "ipc/base/close_others.hpp"
#include "ipc/base/proc.hpp"
#include "ipc/base/process_ref.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::detail {

namespace {

constexpr std::size_t k_stack = 64 * 1024;
constexpr char k_name[16] = "cleanfork-wait", k_ended_name[16] = "cleanfork-done";

// Memory of this process until it goes.
class mapping {
public:
    mapping(std::size_t size, int flags)
        : size_(size),
          at_(::mmap(nullptr, size, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0)) {}
    mapping(const mapping&) = delete;
    mapping& operator=(const mapping&) = delete;
    ~mapping() {
        const int saved = errno;
        if (at_ != MAP_FAILED) ::munmap(at_, size_);
        errno = saved;
    }
    explicit operator bool() const noexcept { return at_ != MAP_FAILED; }
    [[nodiscard]] char* get() const noexcept { return static_cast<char*>(at_); }
    void* release() noexcept { return std::exchange(at_, MAP_FAILED); }

private:
    std::size_t size_;
    void* at_;
};

// What the reaper needs of the program, whose memory it has a copy of.
struct beginning {
    int (*become)(void*);
    void* what;
    reaper_page* page;
    char* stacks;  // the reaper's, and that of the process that becomes the forkserver
    int program, order;
};

void set_stage(reaper_page& page, reaper_stage stage) noexcept {
    __atomic_store_n(&page.stage, stage, __ATOMIC_RELEASE);
    ::syscall(SYS_futex, &page.stage, FUTEX_WAKE, 1 << 30, nullptr, nullptr, 0);
}

reaper_stage stage_of(const reaper_page& page) noexcept {
    return __atomic_load_n(&page.stage, __ATOMIC_ACQUIRE);
}

// Its code, its stack and the shared page stay; in whole pages.
void plan_memory(const beginning& b, hold_plan& plan) noexcept {
    const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    const auto down = [page](std::uintptr_t at) { return at & ~(page - 1); };
    const auto range = [&](std::uintptr_t first, std::uintptr_t last) {
        return memory_range{down(first), down(last + page - 1)};
    };
    const auto stack = reinterpret_cast<std::uintptr_t>(b.stacks);
    const auto shared = reinterpret_cast<std::uintptr_t>(b.page);
    const memory_range code = hold_code();
    memory_range kept[] = {range(code.first, code.last), range(stack, stack + k_stack),
                           range(shared, shared + sizeof(reaper_page))};
    std::sort(std::begin(kept), std::end(kept),
              [](const memory_range& x, const memory_range& y) { return x.first < y.first; });
    std::uintptr_t at = 0;
    for (int i = 0; i < 3; ++i) {
        plan.unmapped[i] = {at, kept[i].first};
        at = kept[i].last;
    }
    plan.above = at;
}

// In a copy of the program, with all signals blocked: none of its handlers ever runs here, and
// what is sent to its process group does not end this process before it.
[[gnu::no_sanitize_address]] int be_reaper(void* with) noexcept {
    const beginning& b = *static_cast<beginning*>(with);
    reaper_page& page = *b.page;
    const std::uint64_t every = ~std::uint64_t{0};
    ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &every, nullptr, sizeof every);
    struct sigaction usual {};
    usual.sa_handler = SIG_DFL;
    ::sigaction(SIGCHLD, &usual, nullptr);  // ignored, the forkserver's end would go unseen
    int forkserver = -1;
    const pid_t made = ::clone(b.become, b.stacks + 2 * k_stack,
                               CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, b.what, &forkserver);
    if (made < 0) {
        page.error_number = errno;
        page.failed = "clone";
    }
    page.forkserver = made;
    ::prctl(PR_SET_NAME, k_name);
    (void)!::chdir("/");
    int kept[] = {b.program, forkserver, b.order};
    ipc::close_others(kept);
    hold_plan plan{};
    plan.page = b.page;
    plan.fds[hold_plan::program] = {b.program, POLLIN, 0};
    plan.fds[hold_plan::forkserver] = {forkserver, POLLIN, 0};
    plan.fds[hold_plan::order] = {b.order, POLLIN, 0};
    std::memcpy(plan.ended_name, k_ended_name, sizeof k_ended_name);
    plan_memory(b, plan);
    set_stage(page, made < 0 ? reaper_stage::ended : reaper_stage::serving);
    hold(&plan);
}

// In a process between, which shares the program's memory: the copy is made here. A copy made by a
// thread of the program would have its rseq(2) area registered, and be ended once that is unmapped.
// With CLONE_PARENT it is the program's child, with the exit signal of this process, which is 0;
// the signal in the call makes it a fork in the eyes of a debugger.
[[gnu::no_sanitize_address]] int make_reaper(void* with) noexcept {
    const beginning& b = *static_cast<beginning*>(with);
    const pid_t made = ::clone(&be_reaper, b.stacks + k_stack, CLONE_PARENT | SIGCHLD, with);
    if (made < 0)
        b.page->error_number = errno;
    else
        b.page->reaper = made;
    ::_exit(0);
}

// Reaps it, whoever else waits for children; false when it was reaped before.
bool reap_helper(pid_t pid) noexcept {
    return ipc::retry([&] { return ::waitpid(pid, nullptr, __WCLONE); }) == pid;
}

}  // namespace

// As posix_spawn(3) does it, whose clone3 fails where a seccomp filter says EPERM to it.
pid_t start_sharing_memory(int (*act)(void*), void* what, int exit_signal) {
    const mapping stack(k_stack, MAP_PRIVATE | MAP_STACK);
    if (!stack) return -1;
    int cancellable = 0;
    ::pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancellable);
    sigset_t every, before;
    ::sigfillset(&every);
    ::pthread_sigmask(SIG_SETMASK, &every, &before);
    const pid_t pid =
        ::clone(act, stack.get() + k_stack, CLONE_VM | CLONE_VFORK | exit_signal, what);
    const int error = errno;
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    ::pthread_setcancelstate(cancellable, nullptr);
    errno = error;
    return pid;
}

std::unique_ptr<reaper> reaper::start(int (*become)(void*), void* what, reaper_page** telling) {
    if (!k_can_hold) {
        errno = ENOSYS;
        return nullptr;
    }
    end_idle_reapers();
    mapping page(sizeof(reaper_page), MAP_SHARED);
    const mapping stacks(2 * k_stack, MAP_PRIVATE | MAP_STACK);
    unique_fd order(::eventfd(0, EFD_CLOEXEC));
    if (!page || !stacks || !order) return nullptr;
    const unique_fd program = ipc::pidfd_open(::getpid());
    *telling = reinterpret_cast<reaper_page*>(page.get());
    beginning b{become, what, *telling, stacks.get(), program.get(), order.get()};
    const pid_t first = start_sharing_memory(&make_reaper, &b, 0);
    if (first < 0) return nullptr;
    reap_helper(first);
    errno = (*telling)->error_number;
    if ((*telling)->reaper == 0) return nullptr;
    page.release();
    std::unique_ptr<reaper> made(new reaper(*telling, (*telling)->reaper, std::move(order)));
    if (made->await_stage(reaper_stage::serving, std::chrono::hours(24))) return made;
    made->end();  // somebody has killed it
    errno = ECHILD;
    return nullptr;
}

reaper::~reaper() { ::munmap(page_, sizeof(reaper_page)); }

bool reaper::lives() const noexcept {
    siginfo_t info{};
    return ::waitid(P_PID, static_cast<id_t>(pid_), &info,
                    WEXITED | WNOHANG | WNOWAIT | __WCLONE) == 0 &&
           info.si_pid == 0;
}

bool reaper::await_stage(reaper_stage least, std::chrono::milliseconds patience) const {
    const auto until = std::chrono::steady_clock::now() + patience;
    for (;;) {
        const bool living = lives();
        const reaper_stage seen = stage_of(*page_);
        if (seen >= least) return true;
        if (!living || std::chrono::steady_clock::now() >= until) return false;
        // Not for ever: one that was killed wakes nobody.
        const timespec moment{0, 5'000'000};
        ::syscall(SYS_futex, &page_->stage, FUTEX_WAIT, seen, &moment, nullptr, 0);
    }
}

std::optional<int> reaper::end_forkserver(std::chrono::milliseconds patience) {
    if (!await_stage(reaper_stage::ended, patience)) {
        const unique_fd pidfd = ipc::pidfd_open(page_->forkserver);
        if (stage_of(*page_) != reaper_stage::ended) ipc::pidfd_signal(pidfd.get(), SIGKILL);
        if (!await_stage(reaper_stage::ended, std::chrono::seconds(10))) return std::nullopt;
    }
    if (page_->forkserver <= 0) return std::nullopt;
    siginfo_t info{};
    info.si_code = page_->how;
    info.si_status = page_->status;
    return ipc::wait_status_of(info);
}

void reaper::end() {
    const pid_t pid = std::exchange(pid_, 0);
    if (pid <= 0) return;
    if (inherits_orphans() && stage_of(*page_) != reaper_stage::ended) return;
    // Not a signal, for which this process may have lost the right by setuid(2).
    const std::uint64_t one = 1;
    if (ipc::retry([&] { return ::write(order_.get(), &one, sizeof one); }) == sizeof one)
        reap_helper(pid);
}

bool inherits_orphans() noexcept {
    int subreaper = 0;
    return ::getpid() == 1 || (::prctl(PR_GET_CHILD_SUBREAPER, &subreaper) == 0 && subreaper != 0);
}

std::optional<std::uint64_t> private_memory() {
    std::istringstream statm(ipc::read_file(AT_FDCWD, "/proc/self/statm").value_or(""));
    std::uint64_t size = 0, resident = 0, shared = 0;
    if (!(statm >> size >> resident >> shared)) return std::nullopt;
    return (resident - std::min(shared, resident)) *
           static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

void end_idle_reapers() {
    const unique_fd threads(::open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!threads) return;
    ipc::each_number(threads.get(), [&](const char* thread, int) {
        const auto text = ipc::read_file(threads.get(), std::string(thread) + "/children");
        std::istringstream children(text.value_or(""));
        for (pid_t pid = 0; children >> pid;) {
            siginfo_t info{};
            const int found = ::waitid(P_PID, static_cast<id_t>(pid), &info,
                                       WEXITED | WNOHANG | WNOWAIT | __WCLONE);
            if (found != 0) continue;  // no child of this kind
            const std::string name =
                ipc::read_line(AT_FDCWD, "/proc/" + std::to_string(pid) + "/comm");
            if (name == k_ended_name && ::kill(pid, SIGKILL) == 0) reap_helper(pid);
        }
    });
}

}  // namespace cleanfork::detail
