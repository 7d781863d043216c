// To whom a child belongs: its group, session and terminal, and whose death it shares.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "ipc/base/process_ref.hpp"
#include "ipc/base/sys.hpp"
#include "tests/helpers/patience.hpp"
#include "tests/integration/attributes/inspection.hpp"

using namespace cleanfork;
using namespace cleanfork::test;

namespace {

struct pseudo_terminal {
    unique_fd master, slave;
};

pseudo_terminal open_terminal() {
    pseudo_terminal t;
    t.master.reset(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
    REQUIRE(t.master);
    REQUIRE(::unlockpt(t.master.get()) == 0);
    t.slave.reset(::ioctl(t.master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
    REQUIRE(t.slave);
    return t;
}

failure why(const client& c, const spawn_options& o) {
    auto r = c.try_spawn(o);
    REQUIRE_FALSE(r.has_value());
    return r.error();
}

// Waits until the writing ends of a pipe are closed: everybody who had one is gone.
bool ends(int fd) {
    char byte;
    pollfd p{fd, POLLIN, 0};
    for (;;) {
        if (::poll(&p, 1, k_patience_ms) != 1) return false;
        if (ipc::retry([&] { return ::read(fd, &byte, 1); }) == 0) return true;
    }
}

}  // namespace

TEST_CASE("a child leads a process group of its own, in the forkserver's session") {
    with_each_variant([](const client& c) {
        const json seen = inspect(c);
        CHECK(seen["pgid"] == seen["pid"]);
        CHECK(seen["sid"] == ::getsid(c.server().pid));
        CHECK(seen["sid"] != ::getsid(0));  // Ctrl-C at our terminal is not for it
        CHECK(seen["terminal"] == 0);
    });
}

TEST_CASE("a child joins the group of another, which both are signalled by") {
    with_each_variant([](const client& c) {
        const process leader = c.spawn({.program = "/bin/cat", .in = stdio::pipe{}});
        const spawn_options joining{.program = {},
                                    .group = {.how = process_group::kind::join, .id = leader.id()}};
        const json seen = inspect(c, joining);
        CHECK(seen["pgid"] == leader.id());

        spawn_options member = joining;
        member.program = "/bin/cat";
        member.in = stdio::pipe{};
        const process second = c.spawn(member);
        leader.signal_group(SIGTERM);
        CHECK(leader.wait() == exit_status::signaled(SIGTERM, false));
        CHECK(second.wait() == exit_status::signaled(SIGTERM, false));
        boost::system::error_code ec;
        // It leads no group: the signal would be for others too.
        const process lonely = c.spawn({.program = "/bin/cat", .in = stdio::pipe{}});
        member.group.id = lonely.id();
        const process third = c.spawn(member);
        CHECK_THROWS_AS(third.signal_group(SIGTERM), spawn_error);
        lonely.terminate();
        third.terminate();
        CHECK(third.wait().signal() == SIGKILL);
        CHECK(lonely.wait().signal() == SIGKILL);
    });
}

TEST_CASE("a child leads a session of its own") {
    with_each_variant([](const client& c) {
        const json seen =
            inspect(c, {.program = {}, .group = {.how = process_group::kind::session}});
        CHECK(seen["sid"] == seen["pid"]);
        CHECK(seen["pgid"] == seen["pid"]);
        CHECK(seen["terminal"] == 0);
    });
}

TEST_CASE("a terminal becomes the child's controlling one, and speaks to it") {
    with_each_variant([](const client& c) {
        const pseudo_terminal t = open_terminal();
        const stdio::descriptor tty{t.slave.get()};
        const json seen = inspect(c, {.program = {},
                                      .in = tty,
                                      .group = {.how = process_group::kind::session},
                                      .controlling_terminal = 0});
        CHECK(seen["terminal"] != 0);
        CHECK(seen["fds"]["0"]["link"].get<std::string>().starts_with("/dev/pts/"));

        const process reader = c.spawn({.program = "/bin/cat",
                                        .in = tty,
                                        .out = stdio::pipe{},
                                        .group = {.how = process_group::kind::session},
                                        .controlling_terminal = 0});
        pid_t foreground = 0;
        CHECK(::ioctl(t.master.get(), TIOCGPGRP, &foreground) == 0);
        CHECK(foreground == reader.id());
        CHECK(::write(t.master.get(), "\x03", 1) == 1);  // Ctrl-C
        CHECK(reader.wait() == exit_status::signaled(SIGINT, false));
    });
}

TEST_CASE("a controlling terminal needs a session, a descriptor in the map, and a free terminal") {
    with_each_variant([](const client& c) {
        const pseudo_terminal t = open_terminal();
        const stdio::descriptor tty{t.slave.get()};
        const auto session = process_group{.how = process_group::kind::session};
        CHECK(why(c, {.program = "/bin/true", .in = tty, .controlling_terminal = 0}).step ==
              step::request);
        CHECK(
            why(c, {.program = "/bin/true", .in = tty, .group = session, .controlling_terminal = 7})
                .step == step::request);
        const process owner = c.spawn(
            {.program = "/bin/cat", .in = tty, .group = session, .controlling_terminal = 0});
        const failure f = why(
            c, {.program = "/bin/true", .in = tty, .group = session, .controlling_terminal = 0});
        CHECK(f.step == step::controlling_terminal);
        CHECK(f.error_number == EPERM);
        owner.terminate();
        CHECK(owner.wait().is_signaled());
    });
}

TEST_CASE("the signal for the forkserver's death is set, and comes") {
    // What is orphaned here becomes this process's own, to be reaped at once.
    REQUIRE(::prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    for (const std::string& off : variants()) {
        INFO("features forced off: " << off);
        const client c = launch_without(off);
        const json seen = inspect(c, {.program = {}, .parent_death_signal = SIGUSR2});
        CHECK(seen["parent_death_signal"] == SIGUSR2);

        process dying = c.spawn({.program = "/bin/sleep",
                                 .args = {"1000"},
                                 .out = stdio::pipe{},
                                 .parent_death_signal = SIGKILL,
                                 .lifetime = lifetime::kept()});
        const pid_t dying_pid = dying.id();
        const unique_fd server = ipc::pidfd_open(c.server().pid);
        REQUIRE(server);
        REQUIRE(ipc::pidfd_signal(server.get(), SIGKILL) == 0);
        CHECK(ends(dying.out()));
        int status = 0;
        REQUIRE(ipc::retry([&] { return ::waitpid(dying_pid, &status, 0); }) == dying_pid);
        CHECK(WIFSIGNALED(status));
        CHECK(WTERMSIG(status) == SIGKILL);
        // Below its reaper it does not become this process's own.
        CHECK(ipc::pidfd_wait(server.get(), ipc::pidfd_event::reaped, k_patience_ms));
        // The number is a signal or it is refused.
    }
    const client c = launch_without("");
    for (const int wrong : {-1, SIGRTMAX + 1})
        CHECK(why(c, {.program = "/bin/true", .parent_death_signal = wrong}).step == step::request);
    REQUIRE(::prctl(PR_SET_CHILD_SUBREAPER, 0) == 0);
}
