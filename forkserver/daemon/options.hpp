// The command line of cleanforkd.
#pragma once

#include <optional>
#include <string>

#include "forkserver/daemon/config/read_file.hpp"
#include "forkserver/daemon/config/settings.hpp"

namespace CLI {
class App;
}

namespace cleanfork::daemon {

struct options {
    settings set;  // of the file, with the command line's over them
    given_settings given;
    std::string file;   // empty: none
    std::string check;  // a file to be checked, and nothing else
    bool asks_keys = false;
    int private_fd = -1;
    bool stay = false;  // a child of the process that started it
    // A template that was forked from the program which began this forkserver.
    int early_fd = -1;
    int early_pid = 0;
    std::string early_name;
};

// The exit code when there is nothing more to do: --help, a file that was checked, or something
// that is wrong.
std::optional<int> parse(int argc, char** argv, options& o);

// The file, if there is one, with what was given on the command line over it.
boost::system::result<settings, file_problems> read_options(const options& o);

// All options, for parse() and for the manual. What is parsed goes to `o`.
void describe(CLI::App& app, options& o);

}  // namespace cleanfork::daemon
