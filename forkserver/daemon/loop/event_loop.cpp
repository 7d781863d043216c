#include "forkserver/daemon/loop/event_loop.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <boost/system/system_error.hpp>
#include <cerrno>
#include <climits>
#include <ctime>

#include "forkserver/daemon/loop/boundary.hpp"
#include "forkserver/daemon/loop/bounded_timer.hpp"
#include "forkserver/daemon/loop/watched_fd.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

namespace {

using std::chrono::duration_cast;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

// After so many events timers and posted handlers have their turn.
constexpr int k_events_a_round = 128;
// In the key of an event: it is the number of a process.
constexpr std::uint64_t k_of_process = std::uint64_t{1} << 63;

#ifdef SYS_epoll_pwait2
constexpr long k_epoll_pwait2 = SYS_epoll_pwait2;
#else
constexpr long k_epoll_pwait2 = 441;  // the same on every machine
#endif

int wait_in_ms(int epoll, epoll_event* events, nanoseconds most) noexcept {
    const auto ms = std::chrono::ceil<milliseconds>(most).count();
    return ::epoll_wait(epoll, events, k_events_a_round,
                        static_cast<int>(std::min<std::int64_t>(ms, INT_MAX)));
}

}  // namespace

event_loop::event_loop(logger* log) : log_(log), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    if (!epoll_)
        throw boost::system::system_error(errno, boost::system::system_category(), "epoll");
}

// ---- rounds ------------------------------------------------------------------

void event_loop::run(std::function<void(std::uint64_t)> after) {
    after_ = std::move(after);
    stopped_ = false;
    while (!stopped_ && has_work()) run_once();
    after_ = {};
}

bool event_loop::run_once(clock::duration most) {
    epoll_event events[k_events_a_round];
    const int count = wait(events, most);
    ++rounds_;
    const bool any = deliver(events, count);
    const bool rang = ring();
    return run_posted() || any || rang;
}

bool event_loop::has_work() const noexcept {
    return !posted_.empty() || !alarms_.empty() || awaited_ != 0;
}

// What fails is as if nothing had come: the next wait says the same, or what has come.
int event_loop::wait(epoll_event* events, clock::duration most) noexcept {
    if (!posted_.empty()) most = {};
    const bool for_ever = most == clock::duration::max() && alarms_.empty();
    if (for_ever) return ::epoll_wait(epoll_.get(), events, k_events_a_round, -1);
    if (!alarms_.empty() && most.count() != 0)
        most = std::clamp(alarms_.begin()->first - clock::now(), clock::duration(), most);
    if (most.count() != 0 && waits_in_ns_) {
        const auto whole = duration_cast<seconds>(most);
        const timespec limit{whole.count(), nanoseconds(most - whole).count()};
        const long n = ::syscall(k_epoll_pwait2, epoll_.get(), events, k_events_a_round, &limit,
                                 nullptr, std::size_t{0});
        if (n >= 0 || !ipc::is_missing(errno)) return static_cast<int>(n);
        waits_in_ns_ = false;
    }
    return wait_in_ms(epoll_.get(), events, most);
}

void event_loop::turn(const char* place, const std::function<void()>& f) noexcept {
    const std::uint64_t began = ipc::monotonic_ns();
    bounded(*this, place, f);
    if (after_) bounded(*this, place, [&] { after_(ipc::monotonic_ns() - began); });
}

bool event_loop::deliver(const epoll_event* events, int count) noexcept {
    bool any_ended = false;
    for (int i = 0; i < count && !stopped_; ++i) {
        const std::uint64_t key = events[i].data.u64;
        if ((key & k_of_process) != 0) {
            any_ended = true;
            turn("end of a process", [&] { ends_->on_end_of_process(key & ~k_of_process); });
        } else if (const auto at = watched_.find(key); at != watched_.end()) {
            at->second->on_events(events[i].events);
        }
    }
    if (any_ended) turn("ends of processes", [&] { ends_->on_ends_told(); });
    return count > 0;
}

bool event_loop::ring() noexcept {
    bool any = false;
    if (alarms_.empty()) return any;
    const auto now = clock::now();
    while (!stopped_ && !alarms_.empty() && alarms_.begin()->first <= now) {
        bounded_timer& t = *alarms_.begin()->second;
        turn(t.place_, [&] { t.ring(); });
        any = true;
    }
    return any;
}

// Those that are posted meanwhile come in the next round.
bool event_loop::run_posted() noexcept {
    const std::size_t count = posted_.size();
    for (std::size_t i = 0; i < count && !stopped_; ++i) {
        const auto [place, f] = std::move(posted_.front());
        posted_.pop_front();
        turn(place, f);
    }
    return count != 0;
}

void event_loop::post(const char* place, std::function<void()> f) {
    posted_.emplace_back(place, std::move(f));
}

// ---- descriptors -------------------------------------------------------------

int event_loop::watch_process(int pidfd, std::uint64_t number) noexcept {
    return set(pidfd, number | k_of_process, 0, EPOLLIN);
}

void event_loop::unwatch_process(int pidfd) noexcept { (void)set(pidfd, 0, EPOLLIN, 0); }

int event_loop::set(int fd, std::uint64_t key, std::uint32_t before, std::uint32_t now) noexcept {
    epoll_event event{};
    event.events = now;
    event.data.u64 = key;
    const int what = before == 0 ? EPOLL_CTL_ADD : now == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
    return ::epoll_ctl(epoll_.get(), what, fd, &event) == 0 ? 0 : errno;
}

}  // namespace cleanfork::daemon
