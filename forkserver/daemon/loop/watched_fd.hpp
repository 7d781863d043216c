// A descriptor that the loop waits for.
#pragma once

#include <chrono>
#include <cleanfork/unique_fd.hpp>
#include <memory>
#include <utility>

#include "forkserver/daemon/loop/boundary.hpp"
#include "forkserver/daemon/loop/bounded_timer.hpp"

namespace cleanfork::daemon {

// Calls what waits inside the boundary of the loop. A wait that the kernel refuses (ENOMEM) is
// tried again after a pause: nobody goes deaf of that.
class watched_fd {
public:
    // `place` names what is called, in the log.
    watched_fd(event_loop& loop, const char* place)
        : loop_(loop), place_(place), again_(loop, place, [this] { arm(); }) {}
    watched_fd(const watched_fd&) = delete;
    watched_fd& operator=(const watched_fd&) = delete;
    ~watched_fd() { close(); }

    // Takes `fd`. Fails with errno (ENOSPC and ENOMEM of epoll), and `fd` stays where it is.
    int take(unique_fd& fd);
    [[nodiscard]] bool is_open() const noexcept { return bool(fd_); }
    // Borrowed; -1 when there is none.
    [[nodiscard]] int fd() const noexcept { return fd_.get(); }
    // What waits is not called any more.
    void close() noexcept { (void)release(); }
    // The same, and the descriptor is the caller's.
    unique_fd release() noexcept;

    enum class to { read, write };
    // Calls `then` once; never after the end of this object, or after close().
    template <class F>
    void await(to what, F then);
    template <class F>
    void await(F then) {
        await(to::read, std::move(then));
    }

    // In what was called to read: in how many rounds without a break. When it was so in the round
    // before, there may well be more than one thing to read.
    [[nodiscard]] unsigned reads_in_a_row() const noexcept { return reads_in_a_row_; }

private:
    friend class event_loop;
    static constexpr std::chrono::milliseconds k_pause{20};

    void on_events(std::uint32_t events) noexcept;
    void call(std::function<void()>& then) noexcept;
    void set_handler(to what, std::function<void()> then) noexcept;
    void arm() noexcept;
    void disarm() noexcept;
    [[nodiscard]] std::uint32_t wanted() const noexcept;

    event_loop& loop_;
    const char* const place_;
    unique_fd fd_;
    std::uint64_t key_ = 0;
    std::uint32_t armed_ = 0;  // as the kernel has it
    std::function<void()> reads_, writes_;
    std::uint64_t last_read_ = 0;  // in which round
    unsigned reads_in_a_row_ = 0;
    bounded_timer again_;
    // Handlers may end this object, or close it.
    std::shared_ptr<char> here_ = std::make_shared<char>();
};

template <class F>
void watched_fd::await(to what, F then) {
    insist(loop_, place_, [&] { set_handler(what, then); });
}

}  // namespace cleanfork::daemon
