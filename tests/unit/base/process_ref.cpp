#include "ipc/base/process_ref.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
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

TEST_CASE("a group is signalled by no number that is many processes, and by none of a reaped one") {
    const pid_t pid = spawn_shell("exec sleep 60");
    using by = process_ref::group_means;
    for (const pid_t told : {-1, 0, 1})  // by signal 0, which reaches nobody
        CHECK(process_ref(told, pidfd_open(pid)).signal_group(0, by::number) == ESRCH);
    const process_ref child(pid, pidfd_open(pid));
    REQUIRE(child.signal(SIGKILL) == 0);
    REQUIRE(::waitpid(pid, nullptr, 0) == pid);
    CHECK(child.signal_group(0, by::number) == ESRCH);
}

TEST_CASE(
    "a pidfd that was handed over is looked at: its process, whose child that is, or neither") {
    const pid_t pid = spawn_shell("exec sleep 60");
    const unique_fd pidfd = pidfd_open(pid);
    const auto alive = look_at_pidfd(pidfd.get());
    REQUIRE(alive.has_value());
    CHECK(alive->pid == pid);
    CHECK(alive->parent == ::getpid());
    REQUIRE(pidfd_signal(pidfd.get(), SIGKILL) == 0);
    REQUIRE(::waitpid(pid, nullptr, 0) == pid);
    const auto gone = look_at_pidfd(pidfd.get());
    REQUIRE(gone.has_value());
    CHECK(gone->pid == 0);
    const unique_fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    CHECK_FALSE(look_at_pidfd(null.get()).has_value());
    const unique_fd event(::eventfd(0, EFD_CLOEXEC));
    CHECK_FALSE(look_at_pidfd(event.get()).has_value());
}

TEST_CASE("who is no child of ours cannot be reaped, and the errno says so") {
    const process_ref self(::getpid(), pidfd_open(::getpid()));
    const reaped r = self.reap(WNOHANG);
    CHECK_FALSE(r.is_child);
    CHECK(r.error_number == ECHILD);
}
