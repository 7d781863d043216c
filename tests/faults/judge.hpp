// Whether what a client was told is typed and true.
#pragma once

#include <string>

#include "tests/faults/paths.hpp"
#include "tests/faults/story.hpp"
#include "tests/faults/watch.hpp"

namespace cleanfork::faults {

struct evidence {
    fault injected;
    std::string ran;  // the letters of what has run
};

// What is wrong with it; empty: nothing.
std::string judge(const story& s, const evidence& e);
// In a few words: "spawn: clone EAGAIN", or "as without".
std::string in_short(const story& s);

struct command_result {
    int wait_status;
    std::string out, err;
};
std::string judge_command(const path& p, const command_result& r, const evidence& e);
std::string in_short(const path& p, const command_result& r);

}  // namespace cleanfork::faults
