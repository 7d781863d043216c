// What ipc::identity is on the wire.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>

#include "ipc/base/identity.hpp"

namespace cleanfork::ipc {

void to_wire(const rights& r, v1::Rights& out);
void to_wire(const place& p, v1::Place& out);
void to_wire(const conduct& c, v1::Conduct& out);
// What of `c` is not as in `known`; false when there is nothing.
bool differences_to_wire(const conduct& c, const conduct& known, v1::Conduct& out);

rights from_wire(const v1::Rights& r);
place from_wire(const v1::Place& p);
// What is not told is 0, or empty.
conduct from_wire(const v1::Conduct& c);

}  // namespace cleanfork::ipc
