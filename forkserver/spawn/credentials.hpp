// What a child may do: its user, its groups and its capabilities.
#pragma once

#include "forkserver/spawn/plan.hpp"

namespace cleanfork::spawn {

struct failed_change {
    step at = step::none;
    int error_number = 0;
};

// Changes what `c` says of the calling thread, in an order in which each change may still be
// made. Async-signal-safe, raw system calls. To become a caller that it is already needs no right.
failed_change change_credentials(const credential_plan& c) noexcept;

}  // namespace cleanfork::spawn
