// Children that outlive their session, statuses until they are acknowledged, and the forkserver's
// own end.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "ipc/base/fd.hpp"
#include "ipc/base/process_ref.hpp"
#include "ipc/base/sys.hpp"
#include "tests/integration/lifetimes/lifetimes_support.hpp"

using namespace cleanfork;
using namespace cleanfork::testing;

namespace {

constexpr std::uint32_t k_long = 3'600'000;

const v1::ChildInfo* find(const v1::ListReply& l, std::uint64_t child) {
    for (const v1::ChildInfo& c : l.children())
        if (c.child() == child) return &c;
    return nullptr;
}

live_child spawn_kept(const test_daemon& daemon, raw_session& observer) {
    raw_session s(daemon);
    v1::SpawnRequest r = sleeper();
    *r.mutable_lifetime() = kept();
    live_child c = s.spawn(r);
    s.close();
    observer.stats_until([](const v1::StatsReply& st) { return st.sessions() == 1; });
    return c;
}

v1::ClientMessage shutdown_request() {
    v1::ClientMessage m;
    m.mutable_shutdown();
    return m;
}

void kill_and_reap(const live_child& c) {
    REQUIRE(ipc::pidfd_signal(c.pidfd.get(), SIGKILL) == 0);
    REQUIRE(ipc::pidfd_wait(c.pidfd.get(), ipc::pidfd_event::ended, k_patience_ms));
}

}  // namespace

TEST_CASE("a kept child is listed without a session, and signalled and waited for by another") {
    test_daemon daemon;
    raw_session other(daemon);
    const live_child c = spawn_kept(daemon, other);
    const v1::ListReply l = other.list();
    const v1::ChildInfo* info = find(l, c.id);
    REQUIRE(info != nullptr);
    CHECK(info->session() == 0);
    CHECK(info->keep());
    CHECK(info->pid() == c.pid);
    CHECK(info->command() == helper_path("scale_pause"));
    CHECK_FALSE(info->has_exit());
    const std::uint64_t waits = post_wait(other, c.id);
    v1::ClientMessage m;
    m.mutable_signal()->set_child(c.id);
    m.mutable_signal()->set_signal(SIGUSR2);
    CHECK(other.request(m).message.has_signal());
    CHECK(exit_of(other, waits).signal() == SIGUSR2);
    CHECK(find(other.list(), c.id) == nullptr);
}

TEST_CASE("the status of a kept child is there until somebody asks, and then forgotten") {
    test_daemon daemon;
    raw_session other(daemon);
    const live_child c = spawn_kept(daemon, other);
    kill_and_reap(c);
    other.stats_until([](const v1::StatsReply& s) { return s.statuses() == 1; });
    const v1::ListReply l = other.list();
    REQUIRE(find(l, c.id) != nullptr);
    CHECK(find(l, c.id)->exit().signal() == SIGKILL);
    CHECK(exit_of(other, post_wait(other, c.id)).signal() == SIGKILL);
    CHECK(other.stats().statuses() == 0);
    v1::ClientMessage m;
    m.mutable_wait()->set_child(c.id);
    CHECK(failure_in(other.request(m)).error_number == ESRCH);
}

TEST_CASE("a kept child that ended before its session did can still be asked for") {
    test_daemon daemon;
    raw_session other(daemon);
    raw_session owner(daemon);
    v1::SpawnRequest r = shell("exit 9");
    *r.mutable_lifetime() = kept();
    const live_child c = owner.spawn(r);
    CHECK(owner.await_exit(c.id).code() == 9);
    owner.close();
    other.stats_until([](const v1::StatsReply& s) { return s.sessions() == 1; });
    CHECK(exit_of(other, post_wait(other, c.id)).code() == 9);
}

TEST_CASE("a status stays until its own session acknowledges it") {
    test_daemon daemon;
    raw_session owner(daemon);
    raw_session other(daemon);
    const live_child c = owner.spawn(shell("exit 5"));
    other.acknowledge({c.id});  // not ended perhaps, and not its own
    CHECK(owner.await_exit(c.id).code() == 5);
    other.acknowledge({c.id});
    CHECK(exit_of(other, post_wait(other, c.id)).code() == 5);
    CHECK(other.stats().statuses() == 1);
    CHECK(exit_of(owner, post_wait(owner, c.id)).code() == 5);
    owner.acknowledge({c.id});
    CHECK(owner.stats().statuses() == 0);
    owner.acknowledge({c.id, 4711});  // nothing happens
    owner.spawn_true();
}

TEST_CASE("a child that runs cannot be acknowledged away") {
    test_daemon daemon;
    raw_session s(daemon);
    const live_child c = s.spawn(sleeper());
    s.acknowledge({c.id});
    kill_and_reap(c);
    CHECK(s.await_exit(c.id).signal() == SIGKILL);
}

TEST_CASE("shutdown ends the children by their lifetime, then the forkserver") {
    test_daemon daemon;
    raw_session s(daemon);
    telling_child polite = spawn_telling(s, {"end"}, ends_with(SIGTERM, k_long));
    telling_child stubborn = spawn_telling(s, {"ignore"}, ends_with(SIGTERM, k_short_ms));
    CHECK(s.request(shutdown_request()).message.has_shutdown());
    CHECK(s.spawn_failure(sleeper()).step == step::shutdown);
    CHECK(polite.lines.next() == "TERM");
    CHECK(polite.lines.at_end());
    CHECK(stubborn.lines.next() == "TERM");
    CHECK(stubborn.lines.at_end());
    // Both statuses arrive before the end.
    CHECK(s.await_exit(polite.child.id).code() == 3);
    CHECK(s.await_exit(stubborn.child.id).signal() == SIGKILL);
    CHECK(s.ends());
    CHECK(daemon.wait() == 0);
}

TEST_CASE("a second shutdown kills at once what still has its grace") {
    test_daemon daemon;
    raw_session s(daemon);
    telling_child c = spawn_telling(s, {"ignore"}, ends_with(SIGTERM, k_long));
    SUBCASE("asked for by a client") {
        s.request(shutdown_request());
        CHECK(c.lines.next() == "TERM");
        s.request(shutdown_request());
    }
    SUBCASE("by signals") {
        daemon.signal(SIGTERM);
        CHECK(c.lines.next() == "TERM");
        daemon.signal(SIGINT);
    }
    CHECK(c.lines.at_end());
    CHECK(s.await_exit(c.child.id).signal() == SIGKILL);
    CHECK(daemon.wait() == 0);
}

TEST_CASE("spawns still queued at a shutdown are refused, and their session learns it") {
    test_daemon daemon;
    raw_session s(daemon);
    daemon.stop();
    std::vector<std::uint64_t> requests;
    for (int i = 0; i < 5; ++i) requests.push_back(s.post_spawn(program({"/bin/true"})));
    REQUIRE(s.send(shutdown_request()));
    daemon.signal(SIGCONT);
    for (const std::uint64_t id : requests) {
        const failure f = failure_in(s.reply_to(id));
        // The first packet is read alone: it may have begun before the others were seen.
        if (id == requests.front() && f == failure{}) continue;
        CHECK(f.step == step::shutdown);
        CHECK(f.error_number == ESHUTDOWN);
    }
    CHECK(daemon.wait() == 0);
}

TEST_CASE("a kept child outlives the forkserver") {
    const subreaper parent;
    live_child c;
    {
        test_daemon daemon;
        raw_session s(daemon);
        v1::SpawnRequest r = sleeper();
        *r.mutable_lifetime() = kept();
        c = s.spawn(r);
        s.request(shutdown_request());
        CHECK(daemon.wait() == 0);
    }
    CHECK_FALSE(ipc::pidfd_wait(c.pidfd.get(), ipc::pidfd_event::ended, 0));
    kill_and_reap(c);
}

TEST_CASE("a private forkserver ends with its owner, and its children before it") {
    const subreaper parent;
    auto pair = ipc::seqpacket_pair();
    REQUIRE(pair.has_value());
    ::fcntl(pair->second.get(), F_SETFD, 0);
    program_options options;
    options.args = {"--private-fd", std::to_string(pair->second.get())};
    const started launcher = start_daemon(options);
    CHECK(testing::reap(launcher) == 0);  // it leaves at once: the forkserver is its child
    pair->second.reset();
    raw_session s(std::move(pair->first));
    const v1::HelloReply hello = s.hello();
    const unique_fd daemon = ipc::pidfd_open(hello.pid());
    REQUIRE(bool(daemon));
    // Real-time signals queue: were it sent twice, both would arrive.
    telling_child c = spawn_telling(s, {"ignore"}, ends_with(SIGRTMIN, k_short_ms));
    s.close();
    CHECK(c.lines.next() == "RTMIN");
    CHECK(c.lines.at_end());
    CHECK(ipc::pidfd_wait(daemon.get(), ipc::pidfd_event::ended, k_patience_ms));
    int status = -1;
    CHECK(::waitpid(hello.pid(), &status, 0) == hello.pid());
    CHECK(status == 0);
}
