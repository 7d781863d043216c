// The request of a child, taken from its channel.
#pragma once

#include <cleanfork/failure.hpp>
#include <span>

#include "forkserver/spawn/call_block.hpp"

namespace cleanfork::templates {

// Waits for it, in `room`, or where it is mapped when it is larger. Its descriptors are numbers in
// the block from then on, which nobody closes. Null when the channel was closed without one.
result<spawn::call_block*> take_call(int channel, std::span<char> room);

}  // namespace cleanfork::templates
