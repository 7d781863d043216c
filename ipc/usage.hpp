// What waitid(2) tells, for the wire.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>
#include <sys/resource.h>
#include <sys/wait.h>

namespace cleanfork::ipc {

void to_wire(const rusage& u, v1::Usage& out);
rusage usage_of(const v1::Usage& u);

// As wait(2) would have given it.
int wait_status_of(const siginfo_t& info) noexcept;

}  // namespace cleanfork::ipc
