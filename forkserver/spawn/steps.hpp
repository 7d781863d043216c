// The child between clone and exec: async-signal-safe calls in one fixed order.
#pragma once

#include <linux/futex.h>

#include <atomic>
#include <cstdint>
#include <span>

#include "forkserver/spawn/plan.hpp"

namespace cleanfork::spawn {

// Written by the child, read by the forkserver once the child has exec'ed or
// ended. Lives in a MAP_SHARED page, so that it works with and without CLONE_VM.
struct child_report {
    std::uint32_t failed_step;  // cleanfork::step; 0: none failed
    std::int32_t error_number;
    std::int32_t index;      // which limit, which descriptor; -1: the step as a whole
    std::uint32_t at;        // the step it is in
    std::uint32_t received;  // it has the descriptors that were sent to it
    // The child's number, by CLONE_CHILD_SETTID. FUTEX_OWNER_DIED is set in it when the process
    // has exec'ed or ended: see launcher.hpp.
    std::atomic<std::uint32_t> begun;
    robust_list lock;
    robust_list_head head;
};

// Descriptors that a plan names: of a packet, and of the session.
inline constexpr int k_most_sources = 128;

struct child_context {
    plan* p;
    child_report* report;
    // With CLONE_FILES: the socket on which the descriptors of the plan come, all but those below
    // it. What is above it is not the child's; see launcher.hpp. -1: the table is its own.
    int channel = -1;
    int lowest_channel = -1;  // of another child's, which it does not need
    bool execs = true;        // else what is not mapped must be closed by close_unmapped()
};

// Applies the plan and executes the program; on failure fills the report and ends
// with _exit(127). Never returns. Takes a child_context*.
int run_child(void* context) noexcept;

// Applies every step of the plan up to exec: what a child of a template runs too.
// False on failure, with the report filled.
bool apply_steps(const child_context& context) noexcept;

// For a child that does not exec: closes every descriptor but the targets of the
// plan, `kept` and `own` (-1: none). 0 or errno. Sorts the plan's moves by target.
int close_unmapped(plan& p, std::span<const int> kept, std::span<const int> own = {}) noexcept;

}  // namespace cleanfork::spawn
