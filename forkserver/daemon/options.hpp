// The command line of cleanforkd.
#pragma once

#include <optional>
#include <string>

#include "forkserver/daemon/core.hpp"
#include "forkserver/daemon/log.hpp"

namespace cleanfork::daemon {

struct options {
    std::string socket;
    int private_fd = -1;
    bool stay = false;  // a child of the process that started it
    // A template that was forked from the program which began this forkserver.
    int early_fd = -1;
    int early_pid = 0;
    std::string early_name;
    log_level least = log_level::info;
    daemon::quotas quotas;
    std::chrono::milliseconds::rep lease_idle_ms = ipc::k_default_lease_idle.count();
};

// The exit code when there is nothing more to do: --help, or an option that is wrong.
std::optional<int> parse(int argc, char** argv, options& o);

}  // namespace cleanfork::daemon
