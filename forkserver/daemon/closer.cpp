#include "forkserver/daemon/closer.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <iterator>
#include <new>
#include <utility>

#include "ipc/base/left_alone.hpp"
#include "ipc/base/raw_call.hpp"

namespace cleanfork::daemon {

namespace {

constexpr std::size_t k_work_size = 4096;
constexpr std::size_t k_closer_stack = 32 * 1024;
constexpr std::size_t k_closer_place = k_work_size + k_closer_stack;
constexpr std::uint32_t k_not_begun = ~0U;

// Not for ASan, and no libc: it shares the memory of a process that goes on.
[[gnu::no_sanitize_address]] int run_closer(void* context) noexcept {
    using ipc::raw_call;
    auto& w = *static_cast<closing_work*>(context);
    // The table must not outlive the forkserver: its clients would not see its end.
    raw_call(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
    raw_call(SYS_prctl, PR_SET_NAME, "cleanfork-close");
    if (raw_call(SYS_getppid) == w.parent) {
        std::uint32_t i = 0;
        // First it says what it does, then it looks whether it still should.
        for (w.at.store(i); i < w.end.load(); w.at.store(++i))
            raw_call(SYS_dup3, w.null, w.numbers[i], O_CLOEXEC);
    }
    for (;;) raw_call(SYS_exit_group, 0);
}

closing_work& work_of(char* place) noexcept { return *reinterpret_cast<closing_work*>(place); }

}  // namespace

closer::~closer() {
    // Who does not end goes on to use all that.
    if (pid_ > 0) {
        kill();
        ipc::leave_alone(new std::vector<int>(std::move(numbers_)));
        for (item& i : items_) (void)i.fd.release();
        return;
    }
    if (place_ != nullptr) ::munmap(place_, k_closer_place);
}

bool closer::start(std::vector<item>& items, int null) {
    numbers_.clear();
    for (const item& i : items) numbers_.push_back(i.fd.get());
    void* const at =
        ::mmap(nullptr, k_closer_place, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) return false;
    place_ = static_cast<char*>(at);
    auto* const w = new (place_) closing_work{};
    w->numbers = numbers_.data();
    w->null = null;
    w->parent = ::getpid();
    w->end = static_cast<std::uint32_t>(numbers_.size());
    w->at = last_at_ = k_not_begun;
    // No signal at its end: it is nobody's business but this object's.
    int flags = CLONE_VM | CLONE_FILES;
    if (!ipc::k_has_raw_call) flags |= CLONE_VFORK;  // for the sake of errno
    pid_ = ::clone(&run_closer, place_ + k_closer_place, flags, w);
    if (pid_ < 0) return false;
    items_ = std::move(items);
    items.clear();
    moved_ = clock::now();
    return true;
}

// `done` were replaced by /dev/null, and can be closed.
void closer::settle(std::vector<item>& left, std::uint32_t done) {
    const auto first = items_.begin() + static_cast<std::ptrdiff_t>(done);
    std::move(first, items_.end(), std::back_inserter(left));
    items_.clear();
}

bool closer::has_ended(std::vector<item>& left) {
    const pid_t r = ::waitpid(pid_, nullptr, WNOHANG | __WALL);
    if (r == 0 || (r < 0 && errno == EINTR)) return false;
    pid_ = -1;
    const closing_work& w = work_of(place_);
    const std::uint32_t at = w.at.load();
    settle(left, at == k_not_begun ? 0 : std::min(at, w.end.load()));
    return true;
}

bool closer::has_stuck() noexcept {
    const std::uint32_t at = work_of(place_).at.load();
    if (at == std::exchange(last_at_, at)) return at != k_not_begun;
    moved_ = clock::now();
    return false;
}

bool closer::is_at_socket() const noexcept {
    const std::uint32_t at = work_of(place_).at.load();
    return at < items_.size() && items_[at].is_socket;
}

// It may move on until it sees the new end: who has said that it is beyond that end is asked again.
void closer::leave_rest(std::vector<item>& left) {
    hangs_ = true;
    closing_work& w = work_of(place_);
    std::uint32_t end = w.at.load() + 1;
    for (;; ++end) {
        w.end.store(std::min(end, static_cast<std::uint32_t>(items_.size())));
        if (w.at.load() < end) break;
    }
    for (std::size_t i = end; i < items_.size(); ++i) left.push_back(std::move(items_[i]));
    if (end < items_.size()) items_.erase(items_.begin() + end, items_.end());
}

void closer::kill() const noexcept {
    if (pid_ > 0) ::kill(pid_, SIGKILL);
}

}  // namespace cleanfork::daemon
