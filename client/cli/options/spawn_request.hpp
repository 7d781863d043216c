// What a command line of `cleanfork spawn`, or of what is like it, asks for.
#pragma once

#include <chrono>
#include <cleanfork/spawn_options.hpp>
#include <cleanfork/unique_fd.hpp>
#include <map>
#include <optional>
#include <string>
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
    bool usual_group = false;  // no option says in which group or session the child is to be
    bool in_job = false;       // in our own process group, at the terminal that we are at
    std::optional<std::chrono::nanoseconds> timeout;
    int timeout_signal = SIGTERM;
    std::optional<std::chrono::nanoseconds> kill_after;

    // What it says.
    bool json = false;
    std::optional<int> json_status_fd;
    bool quiet = false;
    bool verbose = false;
};

}  // namespace cleanfork::cli
