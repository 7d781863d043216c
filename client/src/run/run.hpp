// client::run() and run_call(): spawn or call, feed, gather and wait in one blocking call.
#pragma once

#include <string_view>

#include "client/src/requests/call.hpp"
#include "client/src/requests/spawn.hpp"
#include "client/src/run/pipes.hpp"

namespace cleanfork::detail {

// The packet of a run. Its reply is held for a moment, so that a short-lived
// child costs one wake-up of this program and no pidfd.
result<to_process> prepare_run(outgoing& m, const spawn_options& options, bool has_input,
                               const deadline& d);
// The same of a call.
result<to_process> prepare_run(outgoing& m, const call_request& request, const deadline& d);

// Runs what was prepared. `attributes` are those of the spawn or call.
result<call_result> run(connection& c, outgoing& m, to_process&& convert,
                        const spawn_options& attributes, std::string_view input, const deadline& d);

// Kills the child, and its process group when it has one of its own.
void kill_run(const process& child, const process_group& group);

// What there is to tell of a child that has ended; takes its answer.
call_result gathered(process& child, const exit_status& status, pipes&& streams);

}  // namespace cleanfork::detail
