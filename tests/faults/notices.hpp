// System calls of other processes as notices: each waits until it is answered, seccomp_unotify(2).
#pragma once

#include <sys/types.h>

#include <array>
#include <cleanfork/unique_fd.hpp>
#include <cstdint>
#include <optional>

namespace cleanfork::faults {

// In a process that is to be watched: from here on its calls and those of all its descendants wait
// for whoever reads the listener, which goes into the socket `to`. Ends the process on failure.
void be_watched(int to);
// On the other side.
unique_fd take_listener(int from);

struct notice {
    std::uint64_t id;
    pid_t pid;
    int call;
    std::array<std::uint64_t, 6> args;
};

std::optional<notice> take_notice(int listener);
void let_pass(int listener, const notice& n);
// It is not made, and fails with that; 0: it returns 0.
void answer(int listener, const notice& n, int error_number);

}  // namespace cleanfork::faults
