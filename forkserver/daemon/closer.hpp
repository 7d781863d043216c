// The process that closes what may wait: a copy of the forkserver that runs nothing else.
#pragma once

#include <atomic>
#include <cstdint>

namespace cleanfork::daemon {

// In memory shared with the forkserver. A packet's number is in it; its descriptors are closed by
// a closer once the forkserver has told that it has closed its own, so that the closer's are the
// last and the forkserver's never.
struct closing_board {
    std::atomic<std::uint64_t> given_up;  // all packets up to this
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

// In the copy: receives from `socket`, until its end or until nothing came for a while.
[[noreturn]] void run_closer(int socket, const closing_board& board) noexcept;

}  // namespace cleanfork::daemon
