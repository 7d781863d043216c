// A process that closes descriptors of the forkserver in its stead.
//
// It shares memory and the descriptor table, so that the forkserver never makes these calls: not
// the last close of a socket that lingers, nor any of a file of FUSE or NFS, which asks its server
// at each. Instead of closing a number it puts /dev/null there, which can be done twice: so one
// that was killed in between leaves nothing in doubt, and no number is given to another before the
// forkserver itself has closed it.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cleanfork/unique_fd.hpp>
#include <cstdint>
#include <vector>

namespace cleanfork::daemon {

// What both read and write.
struct closing_work {
    const int* numbers;
    int null;
    pid_t parent;
    std::atomic<std::uint32_t> end;  // how many; made less for one that takes long
    std::atomic<std::uint32_t> at;   // which is being closed; `end` when none is left
};
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

class closer {
public:
    using clock = std::chrono::steady_clock;
    // A descriptor, and whether it is a socket, whose close may be interrupted.
    struct item {
        unique_fd fd;
        bool is_socket = false;
    };

    closer() = default;
    closer(const closer&) = delete;
    closer& operator=(const closer&) = delete;
    ~closer();

    // Takes `items` when there is a process for them. False, with errno.
    bool start(std::vector<item>& items, int null);
    // The process is no more. What it has not closed is back in `left`; what it has, is closed.
    bool has_ended(std::vector<item>& left);
    // It is still at what it was at when this was asked before, which was a tick ago.
    [[nodiscard]] bool has_stuck() noexcept;
    [[nodiscard]] bool is_at_socket() const noexcept;
    // It goes on with what it is at, and no further: the rest is in `left`.
    void leave_rest(std::vector<item>& left);
    void kill() const noexcept;
    [[nodiscard]] clock::duration since_move() const noexcept { return clock::now() - moved_; }
    [[nodiscard]] bool hangs() const noexcept { return hangs_; }

private:
    void settle(std::vector<item>& left, std::uint32_t done);

    char* place_ = nullptr;  // its stack and its work
    pid_t pid_ = -1;
    std::vector<item> items_;
    std::vector<int> numbers_;
    std::uint32_t last_at_ = 0;
    clock::time_point moved_;
    bool hangs_ = false;
};

}  // namespace cleanfork::daemon
