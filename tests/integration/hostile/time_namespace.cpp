// A client whose clocks are not the forkserver's.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cleanfork/client.hpp>
#include <string>

#include "tests/integration/hostile/hostile_daemon.hpp"

using namespace cleanfork;
using namespace cleanfork::testing;

namespace {

constexpr int k_no_namespace = 77;

// Of one that waits in the queue for up to an hour, from where CLOCK_MONOTONIC is `seconds` ahead:
// 0 when it ran, 1 when it failed.
int code_of_a_spawn_elsewhere(const std::string& socket, const std::string& seconds) {
    const pid_t first = ::fork();
    if (first == 0) {
        const std::string offset = "monotonic " + seconds + " 0\n";
        // The namespace is of the children that are made after this.
        if (::unshare(CLONE_NEWTIME) != 0) ::_exit(k_no_namespace);
        const unique_fd file(::open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC));
        if (::write(file.get(), offset.data(), offset.size()) < 0) ::_exit(k_no_namespace);
        const pid_t second = ::fork();
        if (second == 0) {
            const client c = connect({.path = socket});
            const auto r = c.try_run({.program = "true", .queue_timeout = std::chrono::hours(1)});
            ::_exit(r && r->status.success() ? 0 : 1);
        }
        int status = 0;
        ::waitpid(second, &status, 0);
        ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 2);
    }
    int status = 0;
    REQUIRE(::waitpid(first, &status, 0) == first);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 2;
}

}  // namespace

TEST_CASE(
    "how long a spawn may be queued is told as a duration, whatever the client's clock says") {
    test_daemon daemon;
    for (const char* seconds : {"100000", "-60", "0"}) {
        const int code = code_of_a_spawn_elsewhere(daemon.socket(), seconds);
        if (code == k_no_namespace) {
            MESSAGE("skipped: no time namespace can be made here");
            return;
        }
        CHECK_MESSAGE(code == 0, seconds);
    }
}
