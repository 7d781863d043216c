// Quotas of all sessions of a user together, one past each: an error of that request alone.
#include <doctest/doctest.h>
#include <fcntl.h>

#include <csignal>

#include "ipc/wire/limits.hpp"
#include "tests/integration/hostile/hostile_session.hpp"

using namespace cleanfork;
using namespace cleanfork::testing;

namespace {

constexpr int k_together = 3;

void check_exhausted(const failure& f, std::string_view object, std::string_view option) {
    CHECK(f.step == step::quota);
    CHECK(f.error_number == EDQUOT);
    CHECK(f.object == object);
    CHECK(f.detail.find("RESOURCE_EXHAUSTED") != std::string::npos);
    CHECK(f.detail.find(option) != std::string::npos);
}

// Three spawns of each session, which come to the daemon at a time; why some were refused. The
// first is read alone, and has begun when the others are.
std::vector<failure> refused_together(const test_daemon& daemon, std::vector<raw_session>& sessions,
                                      const v1::SpawnRequest& r, std::span<const int> fds = {}) {
    daemon.stop();
    for (raw_session& s : sessions)
        for (int i = 0; i < k_together; ++i) s.post_spawn(r, fds);
    daemon.signal(SIGCONT);
    std::vector<failure> refused;
    for (std::size_t i = 0; i < sessions.size(); ++i) {
        // A refusal comes before the replies to those that wait.
        for (int replies = 0; replies < k_together;) {
            const auto m = sessions.at(i).receive();
            REQUIRE(m.has_value());
            if (m->message.request_id() == 0) continue;
            ++replies;
            const failure f = failure_in(*m);
            if (f.step != step::none) refused.push_back(f);
        }
    }
    return refused;
}

}  // namespace

TEST_CASE("one child of all sessions more than allowed fails, in whichever session") {
    test_daemon daemon({.args = {"--max-user-children", "3"}});
    raw_session a(daemon), b(daemon);
    a.spawn(sleeper());
    a.spawn(sleeper());
    b.spawn(sleeper());
    check_exhausted(a.spawn_failure(sleeper()), "children", "--max-user-children");
    check_exhausted(b.spawn_failure(sleeper()), "children", "--max-user-children");
    a.close();
    b.stats_until([](const v1::StatsReply& s) { return s.children() == 1; });
    b.spawn_true();
}

TEST_CASE("one queued spawn of all sessions more than allowed fails") {
    test_daemon daemon({.args = {"--max-user-queued", "1"}});
    std::vector<raw_session> sessions;
    for (int i = 0; i < 2; ++i) sessions.emplace_back(daemon);
    // The third of a session is read in the turn of the second.
    const auto refused = refused_together(daemon, sessions, program({"/bin/true"}));
    REQUIRE_FALSE(refused.empty());
    for (const failure& f : refused) check_exhausted(f, "queued spawns", "--max-user-queued");
    for (raw_session& s : sessions) s.spawn_true();
}

TEST_CASE("more descriptors of queued spawns of all sessions than allowed fail") {
    test_daemon daemon({.args = {"--max-user-descriptors", "1", "--max-queued-descriptors", "1"},
                        .descriptors = 512});
    std::vector<raw_session> sessions;
    for (int i = 0; i < 2; ++i) sessions.emplace_back(daemon);
    const unique_fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    v1::SpawnRequest r = program({"/bin/true"});
    map_descriptor(r, 1, 3);
    const int one[] = {null.get()};
    const auto refused = refused_together(daemon, sessions, r, one);
    REQUIRE_FALSE(refused.empty());
    for (raw_session& s : sessions) s.spawn_true();
}

TEST_CASE("bases of all sessions that take more memory than allowed are refused") {
    test_daemon daemon({.args = {"--max-user-memory", "2500000"}});
    const auto base = [](std::size_t bytes) {
        v1::ClientMessage m;
        m.mutable_update_base()->mutable_base()->add_environment("A=" + std::string(100'000, 'x'));
        for (std::size_t n = 100'000; n < bytes; n += 100'000)
            m.mutable_update_base()->mutable_base()->add_environment("B=" +
                                                                     std::string(100'000, 'x'));
        return m;
    };
    raw_session a(daemon), b(daemon), c(daemon);
    CHECK(failure_in(a.request(base(1'000'000))) == failure{});
    CHECK(failure_in(b.request(base(1'000'000))) == failure{});
    check_exhausted(failure_in(c.request(base(1'000'000))), "bytes of memory for requests",
                    "--max-user-memory");
    c.spawn_true();
    // What a base before it took is free, and so is that of a session that has ended.
    CHECK(failure_in(a.request(base(1'000'000))) == failure{});
    b.close();
    a.stats_until([](const v1::StatsReply& s) { return s.sessions() == 2; });
    CHECK(failure_in(c.request(base(1'000'000))) == failure{});
}
