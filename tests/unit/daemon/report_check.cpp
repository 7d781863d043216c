// Whose report it was, when the pidfd in it was lost to a limit.
#include "forkserver/daemon/templates/report_check.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <vector>

#include "ipc/base/sys.hpp"

using namespace cleanfork;
using namespace cleanfork::daemon;

namespace {

struct waiting_child {
    ipc::process_ref process;

    waiting_child() {
        const pid_t pid = ::fork();
        if (pid == 0)
            for (;;) ::pause();
        process = ipc::process_ref(pid, ipc::pidfd_open(pid));
    }
    void end() {
        process.signal(SIGKILL);
        REQUIRE(process.reap(0).end.has_value());
    }
};

// As the child of a template that is this process, and lives.
result<ipc::process_ref> told_by(pid_t pid, int cut) {
    std::vector<unique_fd> descriptors;
    return process_of_sender({.pid = pid}, descriptors, cut, ::getpid(), -1);
}

}  // namespace

TEST_CASE("a child whose pidfd was cut is found by its number") {
    waiting_child child;
    const auto found = told_by(child.process.pid(), EMFILE);
    REQUIRE(found.has_value());
    CHECK(found->pid() == child.process.pid());
    child.end();
}

TEST_CASE("of a child that ended before it was looked for, the limit is told, not the end") {
    waiting_child child;
    child.end();
    const auto found = told_by(child.process.pid(), EMFILE);
    REQUIRE(!found.has_value());
    CHECK(found.error().error_number == EMFILE);
}

TEST_CASE("who sends no pidfd at all and ends is not believed") {
    waiting_child child;
    child.end();
    const auto found = told_by(child.process.pid(), 0);
    REQUIRE(!found.has_value());
    CHECK(found.error().error_number == EPERM);
}
