// The one place where what a command throws becomes a line and an exit code.
#pragma once

#include <cleanfork/error.hpp>
#include <functional>
#include <optional>
#include <string>

#include "client/cli/options/exit_codes.hpp"
#include "client/cli/reports/output.hpp"

namespace cleanfork::cli {

// How a command tells an error, and what it exits with then.
struct error_manner {
    std::function<void(const failure&)> tell = [](const failure& f) { say(f.message()); };
    // An error that is no failure of a step; it exits with k_exit_failed.
    std::function<void(const std::string&)> tell_other = &say;
    std::function<int(const failure&)> code = [](const failure&) { return k_exit_failed; };
};

// Of a command about a running forkserver: names the socket when nobody answers there.
error_manner about_server(const std::optional<std::string>& socket);

// The exit code of `act`. What it throws is told: a spawn_error or another exception in
// this manner; help and a command_error in their own.
int told(const error_manner& manner, const std::function<int()>& act);

}  // namespace cleanfork::cli
