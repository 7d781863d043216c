// Each quota, one past it: RESOURCE_EXHAUSTED, and the session lives on.
#include <doctest/doctest.h>
#include <fcntl.h>

#include <csignal>

#include "ipc/base/process_ref.hpp"
#include "ipc/wire/limits.hpp"
#include "tests/integration/hostile/hostile_session.hpp"

using namespace cleanfork;
using namespace cleanfork::testing;

namespace {

void check_exhausted(const failure& f, std::string_view object) {
    CHECK(f.step == step::quota);
    CHECK(f.error_number == EDQUOT);
    CHECK(f.object == object);
    CHECK(f.detail.find("RESOURCE_EXHAUSTED") != std::string::npos);
}

// Sends `count` spawns while the daemon is stopped, so that they queue up together;
// their replies, in the order of the requests.
std::vector<failure> queue_together(const test_daemon& daemon, raw_session& s,
                                    const v1::SpawnRequest& r, std::size_t count,
                                    std::span<const int> fds = {}) {
    daemon.stop();
    std::vector<std::uint64_t> requests;
    for (std::size_t i = 0; i < count; ++i) requests.push_back(s.post_spawn(r, fds));
    daemon.signal(SIGCONT);
    std::map<std::uint64_t, failure> got;
    while (got.size() < count) {
        const auto message = s.receive();
        REQUIRE(message.has_value());
        if (message->message.request_id() != 0)
            got[message->message.request_id()] = failure_in(*message);
    }
    std::vector<failure> failures;
    failures.reserve(count);
    for (const std::uint64_t id : requests) failures.push_back(got[id]);
    return failures;
}

// Those that fit are served. Of the others some are refused: a slow machine begins the first before
// it has read the last.
void check_last_exhausted(const std::vector<failure>& failures, std::size_t fit,
                          std::string_view object) {
    for (std::size_t i = 0; i < fit; ++i) CHECK(failures.at(i).step == step::none);
    std::size_t refused = 0;
    for (const failure& f : failures) {
        if (f.step == step::none) continue;
        check_exhausted(f, object);
        ++refused;
    }
    CHECK(refused != 0);
}

}  // namespace

TEST_CASE("one session more than allowed is told so, and the others live on") {
    test_daemon daemon({.args = {"--max-sessions", "3"}});
    raw_session a(daemon), b(daemon), c(daemon);
    raw_session d(daemon.connect());
    CHECK(d.ends());
    check_exhausted(d.last_failure, "sessions");
    a.spawn_true();
    b.close();
    c.stats_until([](const v1::StatsReply& s) { return s.sessions() == 2; });
    raw_session e(daemon);
    e.spawn_true();
    CHECK(e.stats().quota_refusals_total() == 1);
}

TEST_CASE("one child more than allowed fails; a status counts until it is acknowledged") {
    test_daemon daemon({.args = {"--max-children", "3"}});
    raw_session s(daemon);
    raw_session other(daemon);
    s.spawn(sleeper());
    s.spawn(sleeper());
    const live_child last = s.spawn(program({"/bin/true"}));
    s.await_exit(last.id);
    check_exhausted(s.spawn_failure(sleeper()), "children");
    other.spawn_true();
    s.acknowledge({last.id});
    s.spawn_true();
}

TEST_CASE("one queued spawn more than allowed fails, and those before it are served") {
    test_daemon daemon({.args = {"--max-queued", "5"}});
    raw_session s(daemon);
    check_last_exhausted(queue_together(daemon, s, program({"/bin/true"}), 50), 5, "queued spawns");
    s.spawn_true();
}

TEST_CASE("more bytes of queued spawns than allowed fail") {
    const v1::SpawnRequest r = program({"/bin/true", std::string(400, 'x')});
    const std::size_t most = 2 * r.ByteSizeLong();
    test_daemon daemon({.args = {"--max-queued-bytes", std::to_string(most)}});
    raw_session s(daemon);
    check_last_exhausted(queue_together(daemon, s, r, 50), 2, "bytes of queued spawns");
    s.spawn_true();
}

TEST_CASE("more descriptors of queued spawns than allowed fail") {
    test_daemon daemon({.args = {"--max-queued-descriptors", "4"}});
    raw_session s(daemon);
    const unique_fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const int two[] = {null.get(), null.get()};
    v1::SpawnRequest r = program({"/bin/true"});
    map_descriptor(r, 1, 3);
    map_descriptor(r, 2, 4);
    check_last_exhausted(queue_together(daemon, s, r, 50, two), 2, "descriptors of queued spawns");
    s.spawn_true();
}

TEST_CASE("a batch counts with all its items, and a refused one spawns none") {
    test_daemon daemon({.args = {"--max-queued", "3"}});
    raw_session s(daemon);
    v1::ClientMessage m;
    for (int i = 0; i < 4; ++i) *m.mutable_batch()->add_items() = program({"/bin/true"});
    check_exhausted(failure_in(s.request(m)), "queued spawns");
    CHECK(s.stats().spawned_total() == 0);
    m.mutable_batch()->mutable_items()->RemoveLast();
    CHECK(s.request(m).message.batch().items_size() == 3);
}

TEST_CASE("an item of a batch beyond the children allowed fails alone") {
    test_daemon daemon({.args = {"--max-children", "2"}});
    raw_session s(daemon);
    v1::ClientMessage m;
    for (int i = 0; i < 3; ++i) *m.mutable_batch()->add_items() = sleeper();
    const reply r = s.request(m);
    REQUIRE(r.message.batch().items_size() == 3);
    CHECK(r.message.batch().items(0).has_spawned());
    CHECK(r.message.batch().items(1).has_spawned());
    check_exhausted(ipc::from_wire(r.message.batch().items(2).failure()), "children");
    CHECK(r.descriptors.size() == 2);
}

TEST_CASE("of the statuses that belong to nobody, the oldest beyond those allowed is forgotten") {
    test_daemon daemon({.args = {"--max-unclaimed", "2"}});
    raw_session observer(daemon);
    std::vector<live_child> kept;
    {
        raw_session s(daemon);
        v1::SpawnRequest r = sleeper();
        r.mutable_lifetime()->set_keep(true);
        for (int i = 0; i < 3; ++i) kept.push_back(s.spawn(r));
    }
    observer.stats_until([](const v1::StatsReply& s) { return s.sessions() == 1; });
    for (const live_child& c : kept) {
        REQUIRE(ipc::pidfd_signal(c.pidfd.get(), SIGTERM) == 0);
        const auto ended = static_cast<std::uint64_t>(&c - kept.data()) + 1;
        observer.stats_until([&](const v1::StatsReply& s) { return s.exited_total() == ended; });
    }
    CHECK(observer.stats().statuses() == 2);
    v1::ClientMessage m;
    m.mutable_wait()->set_child(kept[0].id);
    CHECK(failure_in(observer.request(m)).error_number == ESRCH);
    m.mutable_wait()->set_child(kept[2].id);
    CHECK(observer.request(m).message.wait().exit().signal() == SIGTERM);
}

TEST_CASE("a batch has at least one item and at most 64") {
    test_daemon daemon;
    raw_session s(daemon);
    v1::ClientMessage m;
    m.mutable_batch();
    CHECK(failure_in(s.request(m)).error_number == EINVAL);
    for (std::size_t i = 0; i <= ipc::k_max_batch; ++i)
        *m.mutable_batch()->add_items() = program({"/bin/true"});
    const failure f = failure_in(s.request(m));
    CHECK(f.step == step::request);
    CHECK(f.object == "items");
    m.mutable_batch()->mutable_items()->RemoveLast();
    CHECK(s.request(m).descriptors.size() == ipc::k_max_batch);
}

TEST_CASE("the bases of queued spawns count as bytes, once each") {
    test_daemon daemon({.args = {"--max-queued-bytes", "100000"}});
    raw_session s(daemon);
    const auto post_base = [&] {
        v1::ClientMessage m;
        auto& base = *m.mutable_update_base()->mutable_base();
        base.add_environment("BIG=" + std::string(40'000, 'x'));
        REQUIRE(s.send(m));
    };
    daemon.stop();
    std::vector<std::uint64_t> requests;
    for (int i = 0; i < 3; ++i) {
        post_base();
        requests.push_back(s.post_spawn(program({"/bin/true"})));
        requests.push_back(s.post_spawn(program({"/bin/true"})));
    }
    daemon.signal(SIGCONT);
    std::map<std::uint64_t, failure> got;
    while (got.size() < requests.size()) {
        const auto r = s.receive();
        REQUIRE(r.has_value());
        if (r->message.has_spawn() || r->message.has_failure())
            got[r->message.request_id()] = failure_in(*r);
    }
    for (int i = 0; i < 4; ++i) CHECK(got[requests.at(i)].step == step::none);
    check_exhausted(got[requests.at(4)], "bytes of queued spawns");
    s.spawn_true();
}
