// Where cleanforkd is: one rule for the library, the commands and Python.
#pragma once

#include <cleanfork/failure.hpp>
#include <string>
#include <vector>

namespace cleanfork::ipc {

// `given` alone, when it is not empty; else $CLEANFORK_DAEMON alone, when it is set and not
// empty; else the first of daemon_places() that is a program. The failure is ENOENT, or
// EACCES for a file that cannot be run, and lists every place that was looked at.
result<std::string> find_daemon(const std::string& given);

// Directories, or empty where they are not known.
struct daemon_search {
    std::string program;    // that of the program that asks
    std::string library;    // that of the file this code is in
    std::string installed;  // where the installation put programs
    std::string path;       // as $PATH
};

// The files to try, in order and each once: beside the program and in ../bin and ../sbin from
// there, the same for the library, the installed place, PATH. An empty element of PATH, which
// means the working directory to a shell, is passed over: whoever can write to a directory
// must not choose the daemon of those who happen to be in it.
std::vector<std::string> daemon_places(const daemon_search& search);

}  // namespace cleanfork::ipc
