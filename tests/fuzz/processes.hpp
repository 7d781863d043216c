// The processes of a fuzz target, and their end.
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <iterator>
#include <set>
#include <string>

namespace cleanfork::fuzz {

inline std::set<pid_t> child_processes() {
    std::ifstream list("/proc/self/task/" + std::to_string(::getpid()) + "/children");
    return {std::istream_iterator<pid_t>(list), std::istream_iterator<pid_t>()};
}

// But not those of before: the fuzzer has its symbolizer. True when there were any.
inline bool kill_all_but(const std::set<pid_t>& spared) {
    bool any = false;
    for (const pid_t pid : child_processes()) {
        if (spared.contains(pid)) continue;
        ::kill(pid, SIGKILL);
        any = true;
    }
    return any;
}

inline void reap_all_but(const std::set<pid_t>& spared) {
    kill_all_but(spared);
    for (const pid_t pid : child_processes())
        if (!spared.contains(pid)) ::waitpid(pid, nullptr, 0);
}

}  // namespace cleanfork::fuzz
