// What a child of a template is sent over its private channel.
#pragma once

#include <cleanfork/failure.hpp>

#include "forkserver/daemon/sessions/spawn_queue.hpp"

namespace cleanfork::daemon {

// Sends the call with copies of its descriptors; it stays as it is. step::child_start when
// nobody is at the other end of `channel` (borrowed), step::prepare when it cannot be sent.
result<void> send_request(int channel, queued_spawn& q);

}  // namespace cleanfork::daemon
