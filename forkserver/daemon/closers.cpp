#include "forkserver/daemon/closers.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "forkserver/daemon/loop/boundary.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

namespace {

constexpr std::size_t k_most_closers = 8;
constexpr std::chrono::milliseconds k_tick{2};
constexpr std::chrono::milliseconds k_rare_tick{50};
constexpr std::chrono::milliseconds k_long{20};
constexpr std::chrono::seconds k_full_for_good{1};

// By what is known of it here, without asking a server.
bool is_socket(int fd) noexcept {
    struct statx s {};
    return ::statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &s) == 0 &&
           S_ISSOCK(s.stx_mode);
}

}  // namespace

closers::closers(event_loop& io, int null, logger& log)
    : io_(io), null_(null), log_(log), look_again_(io, "closers", [this] { look(); }) {}

void closers::dispose(std::vector<unique_fd> fds) noexcept {
    if (stopped_) {
        for (unique_fd& fd : fds) (void)fd.release();
        return;
    }
    // Without memory for it they are closed here, though that may wait.
    bounded(io_, "closers", [&] {
        std::erase_if(
            fds, [this](const unique_fd& fd) { return !fd || kinds_.closes_at_once(fd.get()); });
        if (fds.empty()) return;
        waiting_.reserve(waiting_.size() + fds.size());
        for (unique_fd& fd : fds) {
            const bool socket = is_socket(fd.get());
            waiting_.push_back({std::move(fd), socket});
        }
        work();
    });
}

failure closers::refusal() const {
    if (!full_since_ || clock::now() - *full_since_ < k_full_for_good) return {};
    return ipc::fail(step::quota, EBUSY, "descriptors",
                     "RESOURCE_EXHAUSTED: those of earlier requests cannot be closed, since the "
                     "file systems they are of do not answer");
}

// One takes all that is at hand; more are there only for what is behind one that hangs.
void closers::work() {
    const bool any = std::any_of(processes_.begin(), processes_.end(),
                                 [](const closer& c) { return !c.hangs(); });
    if (!any && !waiting_.empty() && processes_.size() < k_most_closers) begin();
    if (waiting_.empty())
        full_since_.reset();
    else if (!full_since_ && !any)
        full_since_ = clock::now();
    if (processes_.empty() && waiting_.empty()) return;
    const bool all_hang = std::all_of(processes_.begin(), processes_.end(),
                                      [](const closer& c) { return c.hangs(); });
    look_again_.set_in(all_hang ? k_rare_tick : k_tick);
}

void closers::begin() {
    processes_.emplace_back();
    if (!processes_.back().start(waiting_, null_)) processes_.pop_back();
}

void closers::look() {
    std::erase_if(processes_, [this](closer& c) { return look_at(c); });
    work();
    tell();
}

// True when there is nothing more to do for it.
bool closers::look_at(closer& c) {
    if (c.has_ended(waiting_)) return true;
    if (!c.has_stuck()) return false;
    if (c.is_at_socket()) c.kill();
    if (!c.hangs() && c.since_move() > k_long) c.leave_rest(waiting_);
    return false;
}

void closers::tell() {
    if (refusal().step == step::none) {
        told_ = false;
    } else if (!std::exchange(told_, true)) {
        log_.warning("descriptors_wait_to_be_closed",
                     {{"processes", std::uint64_t{processes_.size()}},
                      {"descriptors", std::uint64_t{waiting_.size()}}});
    }
}

void closers::stop() noexcept {
    if (stopped_) return;
    stopped_ = true;
    bounded(io_, "closers", [this] { look_again_.cancel(); });
    for (closer::item& i : waiting_) (void)i.fd.release();
    waiting_.clear();
    processes_.clear();
}

}  // namespace cleanfork::daemon
