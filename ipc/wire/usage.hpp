// What a process and its children have used, for the wire.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>
#include <sys/resource.h>

namespace cleanfork::ipc {

void to_wire(const rusage& u, v1::Usage& out);

}  // namespace cleanfork::ipc
