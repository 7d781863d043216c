// A child that this command starts and leaves running.
#pragma once

#include <cleanfork/client.hpp>
#include <functional>

#include "client/cli/reports/spawn_report.hpp"

namespace cleanfork::cli {

// Starts the child, prints its id, and ends this command. `start` may throw.
[[noreturn]] void leave_running(const spawn_report& report, const std::function<process()>& start);

}  // namespace cleanfork::cli
