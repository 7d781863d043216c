// The numbers the daemon names things by; see ipc/wire/ids.hpp.
#pragma once

#include "ipc/wire/ids.hpp"

namespace cleanfork::daemon {

using ipc::child_id;
using ipc::request_id;
using ipc::session_id;
// One process of a template, from its start to its end; the daemon alone knows it.
using generation_id = ipc::id<struct generation_kind>;
// An order to fork, and the child that comes of it; unique within its generation.
using sequence_number = ipc::id<struct sequence_kind>;

}  // namespace cleanfork::daemon
