// The daemon runs short of processes or descriptors: requests fail, sessions live on.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <csignal>

#include "ipc/base/process_ref.hpp"
#include "ipc/wire/limits.hpp"
#include "tests/integration/hostile/hostile_session.hpp"

using namespace cleanfork;
using namespace cleanfork::testing;

namespace {

v1::SpawnRequest sleep_for_ever() { return program({"/bin/sleep", "infinity"}); }

struct crowd {
    std::vector<live_child> children;
    failure refused;
};

// Spawns until one is refused.
crowd spawn_until_refused(raw_session& s, std::size_t most) {
    crowd c;
    while (c.children.size() < most) {
        reply r = s.reply_to(s.post_spawn(sleep_for_ever()));
        c.refused = failure_in(r);
        if (c.refused.step != step::none) return c;
        const v1::Spawned& spawned = r.message.spawn().spawned();
        c.children.push_back({spawned.child(), spawned.pid(), std::move(r.descriptors.at(0))});
    }
    return c;
}

void end(raw_session& s, const live_child& c) {
    REQUIRE(ipc::pidfd_signal(c.pidfd.get(), SIGKILL) == 0);
    s.await_exit(c.id);
    s.acknowledge({c.id});
}

void run_true(raw_session& s) {
    const live_child c = s.spawn(program({"/bin/true"}));
    CHECK(s.await_exit(c.id).code() == 0);
    s.acknowledge({c.id});
}

}  // namespace

TEST_CASE("EAGAIN of clone fails the spawn, and the next one works once there is room") {
    if (::geteuid() != 0) {
        MESSAGE("not run: RLIMIT_NPROC does not bind this user's daemon alone");
        return;
    }
    test_daemon daemon({.processes = 12, .uid = 61'001});
    raw_session neighbour(daemon);
    run_true(neighbour);
    baseline before(neighbour);
    raw_session s(daemon);
    const crowd c = spawn_until_refused(s, 100);
    CHECK(c.children.size() == 11);  // and the daemon
    CHECK(c.refused.step == step::clone);
    CHECK(c.refused.error_number == EAGAIN);
    CHECK(neighbour.spawn_failure(program({"/bin/true"})).error_number == EAGAIN);
    end(s, c.children.front());
    run_true(neighbour);
    run_true(s);
    s.close();
    before.expect_again();
}

TEST_CASE("a daemon out of descriptors refuses connections by name and serves those it has") {
    test_daemon daemon({.descriptors = 96});
    raw_session neighbour(daemon);
    run_true(neighbour);
    baseline before(neighbour);
    std::vector<raw_session> flood;
    for (int i = 0; i < 150; ++i) flood.emplace_back(daemon.connect());
    // Of the last ones, none is served; each learns why.
    raw_session& last = flood.back();
    CHECK(last.ends());
    CHECK(last.last_failure.step == step::quota);
    for (int i = 0; i < 10; ++i) run_true(neighbour);
    flood.clear();
    before.expect_again();
    raw_session again(daemon);
    run_true(again);
}

TEST_CASE("a session whose children use up the descriptors is refused more, not hung up on") {
    test_daemon daemon({.descriptors = 96});
    raw_session neighbour(daemon);
    run_true(neighbour);
    baseline before(neighbour);
    raw_session s(daemon);
    const crowd c = spawn_until_refused(s, 1000);
    CHECK(c.children.size() > 20);
    CHECK(c.children.size() < 96);
    CHECK(c.refused.step == step::quota);
    CHECK(c.refused.error_number == EMFILE);
    // There is room for those who have few.
    run_true(neighbour);
    raw_session newcomer(daemon);
    run_true(newcomer);
    newcomer.close();
    end(s, c.children.front());
    run_true(s);
    s.close();
    before.expect_again();
    run_true(neighbour);
}

TEST_CASE(
    "a request whose descriptors are cut near the daemon's limit is refused, and leaves none") {
    if (k_sanitized) {
        MESSAGE("not run under a sanitizer, which needs a pipe to look at an object");
        return;
    }
    test_daemon daemon({.descriptors = 64});
    raw_session neighbour(daemon);
    run_true(neighbour);
    baseline before(neighbour);
    const unique_fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    v1::SpawnRequest r = program({"/bin/true"});
    for (int i = 0; i < 64; ++i) map_descriptor(r, static_cast<std::uint32_t>(i) + 1, 10 + i);
    for (int round = 0; round < 20; ++round) {
        raw_session s(daemon);
        const failure why =
            failure_in(s.reply_to(s.post_spawn(r, std::vector<int>(64, null.get()))));
        CHECK(why.step == step::quota);
        CHECK(why.error_number == EMFILE);
        run_true(s);
        run_true(neighbour);
    }
    before.expect_again();
}
