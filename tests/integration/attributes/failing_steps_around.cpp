// The steps before a process is made and after it exists fail here, as a user of
// the client sees them; those of a child are in failing_steps.cpp.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "ipc/base/sys.hpp"
#include "ipc/wire/limits.hpp"
#include "ipc/wire/message.hpp"
#include "ipc/wire/packet.hpp"
#include "ipc/wire/socket_path.hpp"
#include "tests/helpers/patience.hpp"
#include "tests/integration/attributes/failing_steps.hpp"

using namespace cleanfork;
using namespace cleanfork::test;

namespace {

namespace fs = std::filesystem;

// The failure that `call` throws.
template <class Call>
failure thrown(Call&& call) {
    try {
        call();
    } catch (const spawn_error& e) {
        return e.why();
    }
    FAIL("nothing was thrown");
    return {};
}

void check(const failure& f, step at, int error_number) {
    INFO(f.message());
    CHECK(to_string(f.step) == to_string(at));
    CHECK(f.error_number == error_number);
    CHECK(f.message().starts_with(to_string(at)));
}

// A forkserver that listens, as a child of a private one, by activation: the
// socket takes connections before it runs.
class listening_server {
public:
    listening_server() {
        std::string pattern = (fs::temp_directory_path() / "cleanfork-listen-XXXXXX").string();
        REQUIRE(::mkdtemp(pattern.data()) != nullptr);
        directory_ = pattern;
        const unique_fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
        REQUIRE(socket);
        const auto address = ipc::socket_address(path());
        REQUIRE(address.has_value());
        REQUIRE(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&*address),
                       sizeof *address) == 0);
        REQUIRE(::listen(socket.get(), 8) == 0);
        server_ = outer_.spawn({.program = CLEANFORK_BIN_DIR "/cleanforkd",
                                .listen_fds = {{socket.get(), "cleanfork"}}});
    }
    listening_server(const listening_server&) = delete;
    listening_server& operator=(const listening_server&) = delete;
    ~listening_server() {
        boost::system::error_code ignored;
        server_.signal(SIGTERM, ignored);
        server_.wait(ignored);
        std::error_code also_ignored;
        fs::remove_all(directory_, also_ignored);
    }
    [[nodiscard]] std::string path() const { return directory_ / "socket"; }

    [[nodiscard]] unique_fd connect_raw() const {
        unique_fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
        const auto address = ipc::socket_address(path());
        REQUIRE(::connect(socket.get(), reinterpret_cast<const sockaddr*>(&*address),
                          sizeof *address) == 0);
        return socket;
    }

private:
    client outer_ = launch_without("");
    fs::path directory_;
    process server_;
};

// The failure with which the forkserver ends a session after one packet.
failure answer_to(const listening_server& server, const std::string& packet) {
    const unique_fd socket = server.connect_raw();
    REQUIRE(ipc::send_packet(socket.get(), packet, {}) == ipc::send_status::sent);
    ipc::receiver receiver;
    pollfd p{socket.get(), POLLIN, 0};
    REQUIRE(::poll(&p, 1, k_patience_ms) == 1);
    auto message = ipc::decode_server_message(receiver.receive(socket.get()));
    REQUIRE(message.has_value());
    REQUIRE(message->message.has_failure());
    REQUIRE(::poll(&p, 1, k_patience_ms) == 1);
    CHECK(receiver.receive(socket.get()).status == ipc::receive_status::closed);
    return ipc::from_wire(message->message.failure());
}

}  // namespace

TEST_CASE("launch: a daemon that is not there, and one that ends before it answers") {
    check(thrown([] { launch({.daemon = "/no/such/cleanforkd"}); }), step::launch, ENOENT);
    const failure f = thrown([] { launch({.daemon = "/bin/false"}); });
    CHECK(f.step == step::launch);
    CHECK(f.object == "/bin/false");
    const failure denied =
        thrown([] { launch_denying({"rt_sigprocmask:arg0=0=" + std::to_string(EPERM)}); });
    CHECK(denied.step == step::launch);
}

TEST_CASE("connect: nobody is there, and the one who was is gone") {
    check(thrown([] { connect({.path = "/no/such/socket"}); }), step::connect, ENOENT);
    client c = launch_without("");
    check(thrown([] { client().stats(); }), step::connect, ENOTCONN);
    c.shutdown();
    const failure f = thrown([&] {
        for (;;) c.stats();
    });
    CHECK(f.step == step::connect);
    CHECK_FALSE(c.connected());
}

TEST_CASE("hello and protocol: another version, and a packet that is no message") {
    const listening_server server;
    const client witness = connect({.path = server.path()});
    const leftovers before = leftovers_of(witness);
    v1::ClientMessage hello;
    hello.set_request_id(1);
    hello.mutable_hello()->set_protocol(ipc::k_protocol_version + 1);
    check(answer_to(server, hello.SerializeAsString()), step::hello, EPROTO);
    check(answer_to(server, "\xff\xff\xff\xff"), step::protocol, EBADMSG);
    CHECK(leftovers_of(witness) == before);
    CHECK(witness.stats().protocol_errors_total == 1);
    CHECK(witness.run({.program = "/bin/true"}).status.success());
}

TEST_CASE("hello: a forkserver of another user is not spoken to") {
    if (skipped_without_root("a process of another user")) return;
    const listening_server server;
    fs::permissions(server.path(), fs::perms::all);
    fs::permissions(fs::path(server.path()).parent_path(), fs::perms::all);
    // By descriptor: the directories above may be closed to him.
    const unique_fd directory(
        ::open(fs::path(server.path()).parent_path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    const json seen = as_user(65534, [&]() -> json {
        const failure f = thrown([&] { connect({.path = path_of(directory) + "/socket"}); });
        return {{"step", to_string(f.step)}, {"errno", f.error_number}, {"text", f.message()}};
    });
    INFO(seen.dump());
    CHECK(seen.value("step", "") == "hello");
    CHECK(seen.value("errno", 0) == EPERM);
}

TEST_CASE("request: what makes no sense is refused with the part that does not") {
    const client c = launch_without("");
    check_outcome(
        {"umask", step::request, EINVAL, "umask", {.program = "/bin/true", .umask = 01000}},
        try_failing(c, {"", step::request, 0, {}, {.program = "/bin/true", .umask = 01000}}));
    CHECK(c.stats().failed_total == 3);
}

TEST_CASE("quota: one child more than allowed") {
    launch_options o;
    o.daemon_args = {"--max-children", "1"};
    const client c = launch_without("", o);
    process first = c.spawn({.program = "/bin/cat", .in = stdio::pipe{}});
    const failing second{"second", step::quota, EDQUOT, "children", {.program = "/bin/true"},
                         {},       {},          false};
    check_outcome(second, try_failing(c, second));
    first.take_in().reset();
    CHECK(first.wait().success());
    CHECK(c.run({.program = "/bin/true"}).status.success());
}

TEST_CASE("queue: the time for waiting was over before its turn came") {
    const client c = launch_without("");
    const failing late{"late",
                       step::queue,
                       ETIMEDOUT,
                       "",
                       {.program = "/bin/true", .queue_timeout = std::chrono::nanoseconds(0)}};
    check_outcome(late, try_failing(c, late));
}

TEST_CASE("shutdown: a forkserver that is ending makes no more processes") {
    const client c = launch_without("");
    // It takes the signal for the end only when its input ends.
    process last = c.spawn({.program = "/bin/sh",
                            .args = {"-c", "trap '' TERM; echo ready; cat"},
                            .in = stdio::pipe{},
                            .out = stdio::pipe{},
                            .lifetime = {.grace = std::chrono::seconds(60)}});
    char line[6];
    REQUIRE(::read(last.out(), line, sizeof line) == sizeof line);
    c.shutdown();
    const failing after{"after", step::shutdown, ESHUTDOWN, "", {.program = "/bin/true"}, {},
                        {},      false};
    check_outcome(after, try_failing(c, after));
    last.take_in().reset();
    CHECK(last.wait().success());
}

TEST_CASE("signal and wait: a child that is not there, or has ended") {
    const client c = launch_without("");
    const process p = c.spawn({.program = "/bin/true"});
    CHECK(p.wait().success());
    const leftovers before = leftovers_of(c);
    check(thrown([&] { p.signal(SIGTERM); }), step::signal, ESRCH);
    check(thrown([&] { c.signal(4711, SIGTERM); }), step::signal, ESRCH);
    check(thrown([&] { c.wait(4711); }), step::wait, ESRCH);
    const process alive = c.spawn({.program = "/bin/cat", .in = stdio::pipe{}});
    check(thrown([&] { c.signal(alive.child_id(), 65); }), step::signal, EINVAL);
    check(thrown([&] { alive.signal(-1); }), step::signal, EINVAL);
    alive.terminate();
    CHECK(alive.wait().signal() == SIGKILL);
    c.stats();
    CHECK(leftovers_of(c) == before);
}
