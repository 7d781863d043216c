// Clients that stay silent, do not read, or die: the others are served.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <set>

#include "ipc/base/fd.hpp"
#include "ipc/base/process_ref.hpp"
#include "ipc/wire/limits.hpp"
#include "tests/integration/hostile/hostile_session.hpp"

using namespace cleanfork;
using namespace cleanfork::testing;

namespace {

// Fills the connection with `m`, never reading, until the daemon takes no more.
std::size_t pour(raw_session& s, v1::ClientMessage m, std::size_t most) {
    for (std::size_t sent = 0; sent < most; ++sent) {
        m.set_request_id(s.next_id());
        if (s.send_bytes(m.SerializeAsString()) == EAGAIN) return sent;
    }
    return most;
}

// Pours again and again, with the neighbour's spawns in between: each is a turn
// in which the daemon could have taken more.
std::size_t pour_until_full(raw_session& s, raw_session& neighbour, const v1::ClientMessage& m) {
    std::size_t sent = 0;
    int idle = 0;
    while (idle < 20) {
        const std::size_t more = pour(s, m, 100'000);
        idle = more == 0 ? idle + 1 : 0;
        sent += more;
        neighbour.spawn_true();
        REQUIRE_MESSAGE(sent < 50'000, "the daemon takes whatever it is sent");
    }
    return sent;
}

}  // namespace

TEST_CASE("idle connections cost the others nothing") {
    test_daemon daemon;
    raw_session neighbour(daemon);
    neighbour.spawn_true();
    baseline before(neighbour);
    std::vector<unique_fd> silent;
    for (int i = 0; i < 200; ++i) silent.push_back(daemon.connect());
    neighbour.stats_until([](const v1::StatsReply& s) { return s.sessions() == 201; });
    neighbour.spawn_true();
    silent.clear();
    before.expect_again();
}

TEST_CASE("a client that never reads is not read from, and harms nobody") {
    test_daemon daemon;
    raw_session neighbour(daemon);
    neighbour.spawn_true();
    baseline before(neighbour);
    raw_session deaf(daemon);
    v1::ClientMessage m;
    SUBCASE("while it asks for statistics") { m.mutable_stats(); }
    SUBCASE("while it asks for the children") { m.mutable_list(); }
    SUBCASE("while it spawns, and its children exit") {
        *m.mutable_spawn() = program({helper_path("nothing")});
    }
    const std::size_t taken = pour_until_full(deaf, neighbour, m);
    CHECK(taken > 0);
    const v1::StatsReply now = neighbour.stats();
    // A queued reply to a spawn holds a copy of its pidfd.
    CHECK(now.descriptors() < 10'000);
    if (!k_sanitized) CHECK(now.rss_kib() < 64 * 1024);
    deaf.close();
    before.expect_again();
}

TEST_CASE("a client that reads at last gets every reply and every exit, each once") {
    test_daemon daemon({.args = {"--max-queued", "100000"}});
    raw_session neighbour(daemon);
    raw_session slow(daemon);
    v1::ClientMessage m;
    *m.mutable_spawn() = program({helper_path("nothing")});
    const std::size_t asked = pour_until_full(slow, neighbour, m);
    CHECK(asked > ipc::k_max_unsent_packets);
    std::size_t spawned = 0;
    std::set<std::uint64_t> replied;  // in any order: some begin sooner than others
    while (spawned < asked || slow.exits.size() < asked) {
        const auto r = slow.receive();
        REQUIRE(r.has_value());
        if (!r->message.has_spawn()) continue;
        REQUIRE(r->message.spawn().has_spawned());
        REQUIRE(replied.insert(r->message.request_id()).second);
        ++spawned;
    }
    for (const auto& [child, e] : slow.exits) REQUIRE(e.code() == 0);
    CHECK(slow.exits.size() == asked);
}

TEST_CASE("the waits of a client for a child that does not end are bounded") {
    test_daemon daemon;
    raw_session greedy(daemon);
    const live_child c = greedy.spawn(sleeper());
    v1::ClientMessage m;
    m.mutable_wait()->set_child(c.id);
    const std::size_t most = ipc::k_default_queued_per_session;
    for (std::size_t i = 0; i < most; ++i) REQUIRE(greedy.send(m));
    greedy.stats();
    CHECK(greedy.refusals == 0);
    CHECK(failure_in(greedy.request(m)).step == step::quota);
    // All are answered at the exit, and then there is room again.
    greedy.exits.clear();
    REQUIRE(ipc::pidfd_signal(c.pidfd.get(), SIGTERM) == 0);
    std::size_t answered = 0;
    while (answered < most) {
        const auto r = greedy.receive();
        REQUIRE(r.has_value());
        if (r->message.has_wait()) ++answered;
    }
    CHECK(greedy.request(m).message.has_wait());
}

TEST_CASE("kill -9 of a client with requests under way leaves nothing of it") {
    test_daemon daemon;
    raw_session neighbour(daemon);
    neighbour.spawn_true();
    baseline before(neighbour);
    for (int round = 0; round < 20; ++round) {
        const pid_t pid = ::fork();
        if (pid == 0) {
            raw_session s(daemon);
            for (int i = 0; i < 50; ++i) s.post_spawn(sleeper());
            ::kill(::getpid(), SIGKILL);
        }
        REQUIRE(pid > 0);
        int status = 0;
        REQUIRE(::waitpid(pid, &status, 0) == pid);
        CHECK(WIFSIGNALED(status));
        neighbour.spawn_true();
    }
    before.expect_again();
}

TEST_CASE("a client that shuts down one direction is over, and its queue with it") {
    test_daemon daemon;
    raw_session neighbour(daemon);
    neighbour.spawn_true();
    baseline before(neighbour);
    raw_session half(daemon);
    half.spawn(sleeper());
    SUBCASE("it will write no more") { ::shutdown(half.socket(), SHUT_WR); }
    SUBCASE("it will read no more") { ::shutdown(half.socket(), SHUT_RD); }
    SUBCASE("neither") { ::shutdown(half.socket(), SHUT_RDWR); }
    neighbour.spawn_true();
    half.close();
    before.expect_again();
}

TEST_CASE("the other end of a session is not taken for a new one: it ends with its client") {
    test_daemon daemon;
    raw_session observer(daemon);
    baseline before(observer);
    const auto open_over = [](raw_session& s, int socket) {
        v1::ClientMessage m;
        m.mutable_open_session();
        m.add_descriptors(v1::DESCRIPTOR_PURPOSE_SESSION);
        return failure_in(s.request(std::move(m), {{socket}}));
    };
    {
        raw_session s(daemon);
        const failure own = open_over(s, s.socket());
        CHECK(own.step == step::request);
        CHECK(own.error_number == ELOOP);
        // And that of one which was opened over a pair.
        auto pair = ipc::seqpacket_pair();
        REQUIRE(pair.has_value());
        REQUIRE(open_over(s, pair->first.get()) == failure{});
        pair->first.reset();
        raw_session second(std::move(pair->second));
        second.hello();
        CHECK(open_over(s, second.socket()).error_number == ELOOP);
        CHECK(open_over(second, s.socket()).error_number == ELOOP);
        second.spawn_true();
    }
    before.expect_again();
}
