#include "client/cli/commands/detach.hpp"

#include <cstdio>
#include <cstdlib>

#include "client/cli/options/exit_codes.hpp"

namespace cleanfork::cli {

void leave_running(const spawn_report& report, const std::function<process()>& start) {
    const auto asked = std::chrono::steady_clock::now();
    const process child = start();
    report.started(child, std::chrono::steady_clock::now() - asked);
    report.detached(child);
    // ~client would acknowledge the exit of a child that has ended by now, and
    // the forkserver forget the status: it is for `cleanfork wait`.
    std::_Exit(std::fflush(stdout) == 0 ? k_exit_ok : k_exit_error);
}

}  // namespace cleanfork::cli
