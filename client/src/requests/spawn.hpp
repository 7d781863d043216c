// Spawn requests, from options to the packet.
#pragma once

#include "client/src/requests/operations.hpp"
#include "client/src/requests/translate.hpp"

namespace cleanfork::detail {

// Fills `m` with a spawn of `options`; the pipes' ends are in the conversion.
result<to_process> prepare_spawn(outgoing& m, const spawn_options& options, const deadline& d);

// The same for a batch. Items that cannot be sent have their failure in the
// conversion, and are left out of the packet.
result<to_batch> prepare_batch(outgoing& m, const std::vector<spawn_options>& items,
                               const deadline& d);

// The caller's deadline counts as the request's own: what is still queued in a
// forkserver that was stopped is then not begun when it goes on.
void limit_queue_time(v1::SpawnRequest& r, const deadline& d);

result<process> spawn(connection& c, const spawn_options& options, const deadline& d);

// See client::open_session().
result<unique_fd> open_session(connection& c);

failure not_connected();

}  // namespace cleanfork::detail
