// Closing what is open, however high the limit of descriptors is.
#pragma once

#include <cstddef>
#include <span>

namespace cleanfork::ipc {

// Closes every descriptor from `first` on but those in `keep`, which it sorts; -1 in it counts
// for nothing. Without close_range(2) (before Linux 5.9, or refused by seccomp) the open ones are
// listed from /proc/self/fd; without that too, the numbers up to 2^20, the kernel's usual limit
// (fs.nr_open), are asked for with poll(2). Async-signal-safe.
void close_others(std::span<int> keep, int first = 0) noexcept;
// What close_range(first, last) does, where it is missing.
void close_one_by_one(int first, int last) noexcept;

// How many are open, by asking for each number that way.
std::size_t probed_descriptor_count() noexcept;

}  // namespace cleanfork::ipc
