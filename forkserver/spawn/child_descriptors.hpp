// The descriptors of a child, between clone and exec: how they come to it, and to their numbers.
#pragma once

#include "forkserver/spawn/steps.hpp"

namespace cleanfork::spawn {

// Each gives 0 or errno.

// Makes the table the child's own, with nothing in it that is somebody's; see launcher.hpp.
int close_descriptors(const child_context& c) noexcept;
// Takes in what birth_place::send() has sent; the plan has the new numbers then.
int receive_descriptors(const child_context& c) noexcept;
// Puts each at its target. `index`: which could not be.
int place_descriptors(plan& p, int& index) noexcept;

}  // namespace cleanfork::spawn
