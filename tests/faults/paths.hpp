// The ways of a request through client, forkserver, template and child that are gone with faults.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/faults/story.hpp"

namespace cleanfork::faults {

// What a client has to work with.
struct surroundings {
    std::string directory;
    std::string socket;
    std::string bin;      // with cleanforkd and cleanfork
    std::string helpers;  // with fault_program and template_faults
    int ran = -1;         // where what runs tells so
    int daemon = -1;      // its pidfd
};

struct path {
    std::string_view name;
    // In a process of its own, which is watched; it tells from where to where calls count.
    std::function<void(const surroundings&, teller&)> client{};
    // Or the arguments of a command, what it writes to standard output and its status.
    std::vector<std::string> command{};
    std::string_view output{};
    int code = 0;
    char tag = 0;
    bool ends_daemon = false;
    bool starts_daemon = false;  // the start itself, which has no client
};

const std::vector<path>& all_paths();
template_options template_of(const surroundings& s);
spawn_options program_of(const surroundings& s, char tag, const std::string& what);

}  // namespace cleanfork::faults
