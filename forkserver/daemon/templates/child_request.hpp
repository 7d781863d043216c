// What a child of a template is sent over its private channel.
#pragma once

#include <cleanfork/failure.hpp>
#include <string>
#include <vector>

#include "forkserver/daemon/sessions/spawn_queue.hpp"
#include "forkserver/spawn/call_block.hpp"

namespace cleanfork::daemon {

// A call as its child gets it. Borrows the descriptors of the queued spawn, which stays as it is.
class child_request {
public:
    // What is wrong with the call is known here, before there is a child.
    static result<child_request> make(queued_spawn& q);

    // With copies of its descriptors. step::child_start when nobody is at the other end of
    // `channel` (borrowed), step::prepare when it cannot be sent.
    [[nodiscard]] result<void> send(int channel) const;

private:
    spawn::packed_call call_;
    // When it is too large for a packet: what is sent of it, and what holds the rest.
    std::string outer_;
    unique_fd body_;
};

}  // namespace cleanfork::daemon
