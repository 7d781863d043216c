// When a session ends, each of its children meets its lifetime: signal, grace, SIGKILL.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>

#include "ipc/base/process_ref.hpp"
#include "ipc/wire/limits.hpp"
#include "tests/integration/lifetimes/lifetimes_support.hpp"

using namespace cleanfork;
using namespace cleanfork::testing;

namespace {

using clock_type = std::chrono::steady_clock;
constexpr std::uint32_t k_long = 3'600'000;

struct two_sessions {
    test_daemon daemon;
    raw_session observer{daemon};
    raw_session owner{daemon};
};

void expect_nothing_left(two_sessions& t) {
    t.observer.stats_until([](const v1::StatsReply& s) {
        return s.sessions() == 1 && s.children() == 0 && s.statuses() == 0;
    });
    CHECK(t.observer.list().children_size() == 0);
}

}  // namespace

TEST_CASE("a child gets SIGTERM when its session ends, and time to act on it") {
    two_sessions t;
    telling_child c = spawn_telling(t.owner, {"end"}, ends_with(0, k_long));
    const std::uint64_t waits = post_wait(t.observer, c.child.id);
    t.owner.close();
    CHECK(c.lines.next() == "TERM");
    CHECK(c.lines.at_end());
    CHECK(exit_of(t.observer, waits).code() == 3);
    expect_nothing_left(t);
}

TEST_CASE("the signal of a lifetime is the one the client chose") {
    two_sessions t;
    telling_child c = spawn_telling(t.owner, {"end"}, ends_with(SIGUSR1, k_long));
    t.owner.close();
    CHECK(c.lines.next() == "USR1");
    CHECK(c.lines.at_end());
    expect_nothing_left(t);
}

TEST_CASE("a child that ignores its signal is killed after its grace, and not before") {
    two_sessions t;
    telling_child c = spawn_telling(t.owner, {"ignore"}, ends_with(SIGTERM, k_short_ms));
    const std::uint64_t waits = post_wait(t.observer, c.child.id);
    const auto closed = clock_type::now();
    t.owner.close();
    CHECK(c.lines.next() == "TERM");
    CHECK(c.lines.at_end());
    CHECK(clock_type::now() - closed >= std::chrono::milliseconds(k_short_ms));
    CHECK(exit_of(t.observer, waits).signal() == SIGKILL);
    expect_nothing_left(t);
}

TEST_CASE("without grace a child is killed at once and sees no other signal") {
    two_sessions t;
    telling_child c = spawn_telling(t.owner, {"ignore"}, ends_with(SIGTERM, 0));
    const std::uint64_t waits = post_wait(t.observer, c.child.id);
    t.owner.close();
    CHECK(c.lines.at_end());
    CHECK(exit_of(t.observer, waits).signal() == SIGKILL);
}

TEST_CASE("a stopped child is continued, so that it can act on its signal") {
    two_sessions t;
    telling_child c = spawn_telling(t.owner, {"end"}, ends_with(SIGTERM, k_long));
    const std::uint64_t waits = post_wait(t.observer, c.child.id);
    REQUIRE(ipc::pidfd_signal(c.child.pidfd.get(), SIGSTOP) == 0);
    t.owner.close();
    CHECK(c.lines.next() == "TERM");
    CHECK(exit_of(t.observer, waits).code() == 3);
}

TEST_CASE("kill -9 of the client ends its children within their grace, and keeps the kept one") {
    test_daemon daemon;
    raw_session observer(daemon);
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    line_reader lines{unique_fd(ends[0])};
    const pid_t client = ::fork();
    if (client == 0) {
        raw_session s(daemon);
        const int out[] = {ends[1]};
        v1::SpawnRequest r = program({helper_path("lifetimes_child"), "ignore"});
        map_descriptor(r, 1, STDOUT_FILENO);
        *r.mutable_lifetime() = ends_with(SIGTERM, k_short_ms);
        for (int i = 0; i < 20; ++i) s.spawn(r, out);
        v1::SpawnRequest k = sleeper();
        *k.mutable_lifetime() = kept();
        s.spawn(k);
        for (;;) ::pause();
    }
    unique_fd(ends[1]).reset();
    REQUIRE(client > 0);
    observer.stats_until([](const v1::StatsReply& s) { return s.children() == 21; });
    for (int i = 0; i < 20; ++i) CHECK(lines.next() == "ready");
    REQUIRE(::kill(client, SIGKILL) == 0);
    REQUIRE(::waitpid(client, nullptr, 0) == client);
    for (int i = 0; i < 20; ++i) CHECK(lines.next() == "TERM");
    CHECK(lines.at_end());
    observer.stats_until([](const v1::StatsReply& s) { return s.children() == 1; });
    const v1::ListReply left = observer.list();
    REQUIRE(left.children_size() == 1);
    CHECK(left.children(0).keep());
    CHECK(left.children(0).session() == 0);
    v1::ClientMessage m;
    m.mutable_signal()->set_child(left.children(0).child());
    m.mutable_signal()->set_signal(SIGKILL);
    CHECK(observer.request(m).message.has_signal());
    CHECK(exit_of(observer, post_wait(observer, left.children(0).child())).signal() == SIGKILL);
}

TEST_CASE("a grace longer than a day, and a signal that is none, are refused") {
    test_daemon daemon;
    raw_session s(daemon);
    v1::SpawnRequest r = sleeper();
    *r.mutable_lifetime() =
        ends_with(SIGTERM, static_cast<std::uint32_t>(ipc::k_max_grace.count()) + 1);
    CHECK(s.spawn_failure(r).step == step::request);
    *r.mutable_lifetime() = ends_with(SIGRTMAX + 1, 0);
    CHECK(s.spawn_failure(r).step == step::request);
    *r.mutable_lifetime() = ends_with(-1, 0);
    CHECK(s.spawn_failure(r).step == step::request);
    s.spawn_true();
}
