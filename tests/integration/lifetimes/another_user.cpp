// A child that becomes another user by a set-user-ID program: who may not signal it says so, and
// waits for it no longer than it must.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "ipc/base/process_ref.hpp"
#include "tests/integration/hostile/hostile_session.hpp"

using namespace cleanfork;
using namespace cleanfork::testing;

namespace {

bool can_be_tried() {
    if (::geteuid() == 0) return true;
    MESSAGE("not run: only root can make a set-user-ID program and a daemon of another user");
    return false;
}

// A program that has become root, of a daemon that is not.
struct root_child {
    explicit root_child(raw_session& s) {
        const std::string path = directory / "become_root";
        std::filesystem::copy_file(helper_path("become_root"), path);
        REQUIRE(::chown(path.c_str(), 0, 0) == 0);
        REQUIRE(::chmod(path.c_str(), 04755) == 0);
        const unique_fd program(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
        int ends[2];
        REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
        const unique_fd out(ends[0]);
        unique_fd in(ends[1]);
        v1::SpawnRequest r;
        r.mutable_exec()->add_argv("become_root");
        r.mutable_exec()->set_program_descriptor(1);
        r.mutable_lifetime()->set_grace_ms(50);
        map_descriptor(r, 2, 1);
        v1::ClientMessage m;
        m.add_descriptors(v1::DESCRIPTOR_PURPOSE_EXECUTABLE);
        m.add_descriptors(v1::DESCRIPTOR_PURPOSE_CHILD);
        *m.mutable_spawn() = r;
        reply got = s.request(std::move(m), {{program.get(), in.get()}});
        REQUIRE_MESSAGE(got.message.spawn().has_spawned(), failure_in(got).message());
        id = got.message.spawn().spawned().child();
        pidfd = std::move(got.descriptors.at(0));
        in.reset();
        char byte = 0;
        REQUIRE_MESSAGE(::read(out.get(), &byte, 1) == 1, "is it on a file system of nosuid?");
    }
    ~root_child() { ipc::pidfd_signal(pidfd.get(), SIGKILL); }
    root_child(const root_child&) = delete;
    root_child& operator=(const root_child&) = delete;

    scratch_directory directory;
    std::uint64_t id = 0;
    unique_fd pidfd;
};

}  // namespace

TEST_CASE("a signal to a child that has become root is refused with the reason") {
    if (!can_be_tried()) return;
    test_daemon daemon({.uid = 61'011});
    raw_session s(daemon);
    const root_child c(s);
    v1::ClientMessage m;
    m.mutable_signal()->set_child(c.id);
    m.mutable_signal()->set_signal(SIGTERM);
    const failure f = failure_in(s.request(std::move(m)));
    CHECK(f.step == step::signal);
    CHECK(f.error_number == EPERM);
    CHECK(f.detail.find("set-user-ID") != std::string::npos);
}

TEST_CASE("the end of its session and of the daemon do not wait for a child that has become root") {
    if (!can_be_tried()) return;
    subreaper mine;
    test_daemon daemon({.uid = 61'012});
    raw_session neighbour(daemon);
    raw_session s(daemon);
    const root_child c(s);
    s.close();
    const auto give_up = std::chrono::steady_clock::now() + k_patience;
    while (daemon.log().find("child_left") == std::string::npos &&
           std::chrono::steady_clock::now() < give_up)
        neighbour.stats();
    CHECK(daemon.log().find("child_left") != std::string::npos);
    neighbour.spawn_true();
    daemon.signal(SIGTERM);
    CHECK(daemon.wait() == 0);
    CHECK_FALSE(ipc::pidfd_wait(c.pidfd.get(), ipc::pidfd_event::ended, 0));
}

TEST_CASE("SIGTERM ends a daemon whose child has become root, and says what is left") {
    if (!can_be_tried()) return;
    subreaper mine;
    test_daemon daemon({.uid = 61'013});
    raw_session s(daemon);
    const root_child c(s);
    daemon.signal(SIGTERM);
    CHECK(daemon.wait() == 0);
    CHECK(daemon.log().find("child_left") != std::string::npos);
}
