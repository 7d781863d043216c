// What waitid(2) tells, for the wire.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <string>

namespace cleanfork::ipc {

void to_wire(const rusage& u, v1::Usage& out);
rusage usage_of(const v1::Usage& u);

// As wait(2) would have given it.
int wait_status_of(const siginfo_t& info) noexcept;

// "exited with 3", "was killed by signal 9".
std::string ended_how(int wait_status);

}  // namespace cleanfork::ipc
