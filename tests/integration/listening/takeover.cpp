// One daemon a path: the lifetime lock, stale sockets, and socket activation.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "ipc/base/process_ref.hpp"
#include "ipc/wire/socket_path.hpp"
#include "tests/integration/lifetimes/lifetimes_support.hpp"

using namespace cleanfork;
using namespace cleanfork::testing;

namespace {

bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

// A socket as a daemon that was killed with -9 leaves it.
void leave_stale_socket(const std::string& path) {
    const notify_socket notify;
    program_options options{.args = {"--socket", path}};
    options.environment = {notify.variable()};
    const started d = start_daemon(options);
    REQUIRE(notify.receive(d.pidfd.get()) == "READY=1");
    REQUIRE(ipc::pidfd_signal(d.pidfd.get(), SIGKILL) == 0);
    reap(d);
    REQUIRE(exists(path));
}

unique_fd bound_socket(const std::string& path, int type, bool listens) {
    unique_fd fd(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
    const auto address = ipc::socket_address(path);
    REQUIRE(address.has_value());
    REQUIRE(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) == 0);
    if (listens) REQUIRE(::listen(fd.get(), 8) == 0);
    return fd;
}

}  // namespace

TEST_CASE("a second daemon on the path is refused, and the first goes on") {
    test_daemon daemon;
    raw_session before(daemon);
    const ended e = run_daemon({.args = {"--socket", daemon.socket()}});
    CHECK(e.status == W_EXITCODE(1, 0));
    CHECK(e.text.find("EADDRINUSE") != std::string::npos);
    CHECK(e.text.find(daemon.socket()) != std::string::npos);
    before.spawn_true();
    raw_session after(daemon);
    after.spawn_true();
}

TEST_CASE("while a daemon ends its path is free for the next, whose socket it leaves alone") {
    test_daemon daemon;
    raw_session s(daemon);
    telling_child c = spawn_telling(s, {"ignore"}, ends_with(SIGTERM, 3'600'000));
    daemon.signal(SIGTERM);
    REQUIRE(daemon.notifications().receive(daemon.pidfd()) == "STOPPING=1");
    const notify_socket notify;
    program_options options{.args = {"--socket", daemon.socket()}};
    options.environment = {notify.variable()};
    const started next = start_daemon(options);
    REQUIRE(notify.receive(next.pidfd.get()) == "READY=1");
    daemon.signal(SIGINT);
    CHECK(s.await_exit(c.child.id).signal() == SIGKILL);
    CHECK(daemon.wait() == 0);
    raw_session served(connect_to(daemon.socket()));
    CHECK(served.hello().pid() == next.pid);
    ipc::pidfd_signal(next.pidfd.get(), SIGTERM);
    CHECK(reap(next) == 0);
}

TEST_CASE("a stale socket is taken over") {
    const scratch_directory directory;
    const std::string path = directory / "socket";
    leave_stale_socket(path);
    const notify_socket notify;
    program_options options{.args = {"--socket", path}};
    options.environment = {notify.variable()};
    const started d = start_daemon(options);
    REQUIRE(notify.receive(d.pidfd.get()) == "READY=1");
    raw_session s(connect_to(path));
    s.hello();
    s.spawn_true();
    ipc::pidfd_signal(d.pidfd.get(), SIGTERM);
    CHECK(reap(d) == 0);
    CHECK_FALSE(exists(path));
}

TEST_CASE("of 20 daemons that race for a stale socket exactly one wins, and serves") {
    for (int round = 0; round < 3; ++round) {
        const scratch_directory directory;
        const std::string path = directory / "socket";
        leave_stale_socket(path);
        const notify_socket notify;
        const unique_fd text = text_file();
        program_options options{.args = {"--socket", path}};
        options.environment = {notify.variable()};
        options.standard_error = text.get();
        std::vector<started> daemons;
        for (int i = 0; i < 20; ++i) daemons.push_back(start_daemon(options));
        // The losers end of themselves; the winner is the one that is left.
        REQUIRE(notify.receive(-1) == "READY=1");
        raw_session s(connect_to(path));
        const pid_t winner = s.hello().pid();
        int lost = 0;
        for (const started& d : daemons) {
            if (d.pid == winner) continue;
            CHECK(reap(d) == W_EXITCODE(1, 0));
            ++lost;
        }
        CHECK(lost == 19);
        s.spawn_true();
        for (const started& d : daemons) {
            if (d.pid != winner) continue;
            ipc::pidfd_signal(d.pidfd.get(), SIGTERM);
            CHECK(reap(d) == 0);
        }
        CHECK_FALSE(exists(path));
        // Nothing is left of their private names.
        CHECK(names_in(directory.path()) == std::vector<std::string>{"socket.lock"});
    }
}

TEST_CASE("an activated daemon serves the socket it was given, and leaves it in place") {
    const scratch_directory directory;
    const std::string path = directory / "activated";
    const unique_fd socket = bound_socket(path, SOCK_SEQPACKET, true);
    // Who connects before it runs is served when it does.
    raw_session early(connect_to(path));
    const notify_socket notify;
    program_options options{.args = {"--socket", directory / "unused"}};
    options.environment = {notify.variable()};
    options.listening = socket.get();
    const started d = start_daemon(options);
    REQUIRE(notify.receive(d.pidfd.get()) == "READY=1");
    early.hello();
    early.spawn_true();
    // Its children see nothing of the activation.
    const live_child c = early.spawn(shell("test -z \"$LISTEN_FDS$LISTEN_PID$NOTIFY_SOCKET\""));
    CHECK(early.await_exit(c.id).code() == 0);
    ipc::pidfd_signal(d.pidfd.get(), SIGTERM);
    CHECK(reap(d) == 0);
    CHECK(exists(path));
    CHECK_FALSE(exists(directory / "unused"));
}

TEST_CASE("an activation that is not one listening SEQPACKET socket is refused") {
    const scratch_directory directory;
    const std::string path = directory / "activated";
    unique_fd socket;
    program_options options{.args = {"--socket", directory / "unused"}};
    std::string why;
    SUBCASE("two sockets") {
        socket = bound_socket(path, SOCK_SEQPACKET, true);
        options.environment = {"LISTEN_FDS=2"};
        why = "exactly one";
    }
    SUBCASE("a stream socket") {
        socket = bound_socket(path, SOCK_STREAM, true);
        why = "SOCK_SEQPACKET";
    }
    SUBCASE("one that does not listen") {
        socket = bound_socket(path, SOCK_SEQPACKET, false);
        why = "listening";
    }
    SUBCASE("no socket at all") {
        socket.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
        why = "promised a socket";
    }
    options.listening = socket.get();
    const ended e = run_daemon(options);
    CHECK(e.status == W_EXITCODE(1, 0));
    CHECK_MESSAGE(e.text.find(why) != std::string::npos, e.text);
}

TEST_CASE("an activation meant for another process is none") {
    const scratch_directory directory;
    const notify_socket notify;
    program_options options{.args = {"--socket", directory / "socket"}};
    options.environment = {notify.variable(), "LISTEN_FDS=1", "LISTEN_PID=1"};
    const started d = start_daemon(options);
    REQUIRE(notify.receive(d.pidfd.get()) == "READY=1");
    CHECK(exists(directory / "socket"));
    ipc::pidfd_signal(d.pidfd.get(), SIGTERM);
    CHECK(reap(d) == 0);
}
