// What the client's tests share: a real forkserver and a look at what it left.
#pragma once

#include <dirent.h>
#include <doctest/doctest.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <cleanfork/client.hpp>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>
#include <string>

#include "ipc/base/process_ref.hpp"
#include "ipc/base/sys.hpp"
#include "tests/helpers/patience.hpp"

namespace cleanfork::test {

using namespace std::chrono_literals;

// True once `pid` is gone (or a zombie).
inline bool ends(pid_t pid) {
    const unique_fd fd = ipc::pidfd_open(pid);
    return !fd || ipc::pidfd_wait(fd.get(), ipc::pidfd_event::ended, k_patience_ms);
}

// While this lives, orphans of the test's descendants become its own children:
// so the test reaps them, at once, and sees what nobody else should have left.
class subreaper {
public:
    subreaper() { REQUIRE(::prctl(PR_SET_CHILD_SUBREAPER, 1) == 0); }
    subreaper(const subreaper&) = delete;
    subreaper& operator=(const subreaper&) = delete;
    ~subreaper() {
        ::prctl(PR_SET_CHILD_SUBREAPER, 0);
        while (::waitpid(-1, nullptr, WNOHANG) > 0) {
        }
    }
    // Waits for one child, whichever; its status.
    static pid_t reap_any(int* status = nullptr) { return ::waitpid(-1, status, 0); }
};

inline std::string slurp(const std::string& path) {
    std::ifstream file(path);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

// A field of /proc/PID/status.
inline std::string proc_status(pid_t pid, const std::string& field) {
    std::istringstream lines(slurp("/proc/" + std::to_string(pid) + "/status"));
    for (std::string line; std::getline(lines, line);)
        if (line.starts_with(field + ":")) return line.substr(line.find('\t') + 1);
    return {};
}

inline spawn_options shell(std::string command) {
    return {.program = "sh", .args = {"-c", std::move(command)}};
}

}  // namespace cleanfork::test
