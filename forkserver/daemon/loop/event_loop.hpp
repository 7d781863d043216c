// The forkserver's event loop: descriptors, processes, timers, and what has a turn of its own.
//
// A descriptor is registered with epoll(7) once, level-triggered: it is not armed again for each
// event, and who has read one packet need not ask whether there is another. Nor does a timer cost a
// system call: the wait for events ends in time. Each handler is a turn, inside its boundary.
#pragma once

#include <sys/epoll.h>

#include <chrono>
#include <cleanfork/failure.hpp>
#include <cleanfork/unique_fd.hpp>
#include <cstdint>
#include <deque>
#include <functional>
#include <set>
#include <unordered_map>
#include <utility>

#include "forkserver/daemon/log.hpp"

namespace cleanfork::daemon {

class bounded_timer;
class watched_fd;

// Who is told of the ends of processes.
class ends_owner {
public:
    virtual void on_end_of_process(std::uint64_t number) = 0;
    // Of those that were at hand.
    virtual void on_ends_told() = 0;

protected:
    ~ends_owner() = default;
};

// Of one thread.
class event_loop {
public:
    using clock = std::chrono::steady_clock;

    // Without a log (in tests of one class) it is silent. Throws a system_error when there is no
    // epoll descriptor to be had.
    explicit event_loop(logger* log = nullptr);
    event_loop(const event_loop&) = delete;
    event_loop& operator=(const event_loop&) = delete;
    ~event_loop() = default;

    // Until stop(), or there is nothing to wait for. After each turn `after`, with the time that it
    // took.
    void run(std::function<void(std::uint64_t ns)> after = {});
    // What is at hand, each once; waits for that, at most so long. False when there was nothing.
    bool run_once(clock::duration most = clock::duration::max());
    void stop() noexcept { stopped_ = true; }

    // f() in a turn of its own, after those that were asked for before. Throws std::bad_alloc.
    void post(const char* place, std::function<void()> f);

    // A pidfd whose process is `number` of the one owner. 0, or errno of epoll.
    void tell_ends_to(ends_owner& owner) noexcept { ends_ = &owner; }
    int watch_process(int pidfd, std::uint64_t number) noexcept;
    // Needed before its descriptor is closed when somebody else has a copy.
    void unwatch_process(int pidfd) noexcept;

    // In a catch: what was thrown, which is logged. `place` is the handler's name.
    failure caught(const char* place) noexcept;

    // How often it has waited for events.
    [[nodiscard]] std::uint64_t rounds() const noexcept { return rounds_; }

private:
    friend class bounded_timer;
    friend class watched_fd;
    using alarm = std::pair<clock::time_point, bounded_timer*>;

    void turn(const char* place, const std::function<void()>& f) noexcept;
    [[nodiscard]] int wait(epoll_event* events, clock::duration most) noexcept;
    [[nodiscard]] bool has_work() const noexcept;
    bool deliver(const epoll_event* events, int count) noexcept;
    bool ring() noexcept;
    bool run_posted() noexcept;
    // 0, or errno. `before` and `now` are what it is registered for; 0: not at all.
    int set(int fd, std::uint64_t key, std::uint32_t before, std::uint32_t now) noexcept;

    logger* const log_;
    unique_fd epoll_;
    ends_owner* ends_ = nullptr;
    // A descriptor may be closed while an event of it is at hand: keys are not used again.
    std::unordered_map<std::uint64_t, watched_fd*> watched_;
    std::uint64_t next_key_ = 0;
    std::size_t awaited_ = 0;  // descriptors, by those that have a handler
    std::set<alarm> alarms_;
    std::deque<std::pair<const char*, std::function<void()>>> posted_;
    std::function<void(std::uint64_t)> after_;
    std::uint64_t rounds_ = 0;
    bool waits_in_ns_ = true;  // epoll_pwait2(2), Linux 5.11
    bool stopped_ = false;
};

}  // namespace cleanfork::daemon
