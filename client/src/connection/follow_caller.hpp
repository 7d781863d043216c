// A child is what its caller is: at each start the calling thread is compared with the forkserver.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>

#include <cleanfork/failure.hpp>

#include "ipc/base/identity.hpp"

namespace cleanfork::detail {

// Says in a request that starts something what of the calling thread is not as the forkserver
// told of itself in its greeting. step::identity, EPERM for what no forkserver there can give:
// another root or namespace, a filter of seccomp, a right that it has given up itself.
result<void> follow_caller(const ipc::identity& server, v1::ClientMessage& m);

}  // namespace cleanfork::detail
