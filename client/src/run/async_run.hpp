// client::async_run() and async_run_call(): spawn or call, feed, gather and wait on an executor.
#pragma once

#include "client/src/run/run.hpp"

namespace cleanfork::detail {

void start_async_run(const std::shared_ptr<connection>& c, const spawn_options& options,
                     std::string input, run_handler handler);
void start_async_run(const std::shared_ptr<connection>& c, const entry_run& what,
                     call_run_handler handler);

}  // namespace cleanfork::detail
