// Points in time until which a call may block.
#pragma once

#include <poll.h>

#include <chrono>
#include <cleanfork/client.hpp>
#include <optional>
#include <span>

namespace cleanfork::detail {

using steady = std::chrono::steady_clock;
using deadline = std::optional<steady::time_point>;  // nullopt: never

// `t` from now; one too far away to be counted is never.
inline deadline deadline_after(const timeout& t) {
    if (!t) return std::nullopt;
    const steady::time_point now = steady::now();
    if (*t > steady::time_point::max() - now) return std::nullopt;
    return now + std::max(*t, std::chrono::nanoseconds(0));
}

inline bool passed(const deadline& d) { return d && steady::now() >= *d; }

// poll(2) until the deadline; 0 when it has passed. EINTR counts as nothing
// ready only when the deadline has passed too.
int poll_until(std::span<pollfd> fds, const deadline& d);

}  // namespace cleanfork::detail
