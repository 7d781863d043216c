// What a `cleanfork spawn` command line asks for.
#pragma once

#include <chrono>
#include <cleanfork/spawn_options.hpp>
#include <cleanfork/unique_fd.hpp>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace cleanfork::cli {

struct spawn_request {
    spawn_options options;
    // Of a call: descriptors by name, and those among them that were opened here.
    std::map<std::string, int> named_fds;
    std::vector<unique_fd> opened;

    // Where.
    std::optional<std::string> socket;
    bool only_private = false;

    // How this command goes about it.
    bool detach = false;
    bool pty = false;
    std::optional<std::chrono::nanoseconds> timeout;
    std::optional<std::chrono::nanoseconds> kill_after;

    // What it says.
    bool json = false;
    std::optional<int> json_status_fd;
    bool quiet = false;
    bool verbose = false;
};

// Which of this process's 0, 1 and 2 were closed when it started: a child gets
// /dev/null in their place. Takes their numbers, so that no socket of ours gets them.
struct closed_streams {
    bool closed[3] = {};
};
closed_streams occupy_standard_streams();

// The request of these arguments, or the code to exit with: help or one line
// about the error was printed then.
std::variant<spawn_request, int> parse_spawn(const std::vector<std::string>& args,
                                             const closed_streams& streams);

}  // namespace cleanfork::cli
