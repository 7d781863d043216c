// client::run(): spawn, feed, gather and wait in one blocking call.
#pragma once

#include <string_view>

#include "client/src/spawn.hpp"

namespace cleanfork::detail {

result<run_result> run(connection& c, const spawn_options& options, std::string_view input,
                       const deadline& d);

// The packet of a run. Its reply is held for a moment, so that a short-lived
// child costs one wake-up of this program and no pidfd.
result<to_process> prepare_run(outgoing& m, const spawn_options& options, bool has_input,
                               const deadline& d);

// Kills the child, and its process group when it has one of its own.
void kill_run(const process& child, const process_group& group);

run_result gathered(const process& child, const exit_status& status, std::string&& out,
                    std::string&& err);

}  // namespace cleanfork::detail
