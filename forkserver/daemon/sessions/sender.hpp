// What the sender of a request may ask for.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>

#include <cleanfork/failure.hpp>

#include "ipc/wire/packet.hpp"

namespace cleanfork::daemon {

// True when the sender is not, or no longer, the user that the forkserver runs as: a program that
// has given up root, or somebody who was handed the socket.
bool is_another_user(const ipc::packet_sender& s) noexcept;

// Why another user's request to start something is refused, as far as the kernel tells who he is;
// step::none: its child is to have no more than the sender himself has now.
failure beyond_sender(const ipc::packet_sender& s, const v1::ClientMessage& m);

}  // namespace cleanfork::daemon
