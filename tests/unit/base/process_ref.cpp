#include "ipc/base/process_ref.hpp"

#include <doctest/doctest.h>
#include <spawn.h>
#include <sys/wait.h>

#include <csignal>

#include "ipc/base/features.hpp"
#include "tests/helpers/patience.hpp"

using namespace cleanfork;
using namespace cleanfork::ipc;

namespace {

pid_t spawn_shell(const char* script) {
    pid_t pid = -1;
    const char* argv[] = {"/bin/sh", "-c", script, nullptr};
    REQUIRE(::posix_spawn(&pid, "/bin/sh", nullptr, nullptr, const_cast<char**>(argv), environ) ==
            0);
    return pid;
}

}  // namespace

TEST_CASE("a pidfd tells the end, and after the reap the status, where the kernel can") {
    const feature_set features = probe_features();
    const pid_t pid = spawn_shell("kill -HUP $$");
    const unique_fd fd = pidfd_open(pid);
    REQUIRE(pidfd_wait(fd.get(), ipc::pidfd_event::ended, test::k_patience_ms));
    CHECK_FALSE(pidfd_wait(fd.get(), ipc::pidfd_event::reaped, 0));  // a zombie yet
    CHECK_FALSE(pidfd_exit_status(fd.get()).has_value());
    int status = 0;
    REQUIRE(::waitpid(pid, &status, 0) == pid);
    CHECK(pidfd_signal(fd.get(), 0) == ESRCH);
    if (!features.has(feature::pidfd_exit_info)) {
        MESSAGE("not checked: this kernel has no exit information of pidfds");
        return;
    }
    CHECK(pidfd_wait(fd.get(), ipc::pidfd_event::reaped, test::k_patience_ms));
    CHECK(pidfd_exit_status(fd.get()) == status);
}
