// What a session can ask beside a plain spawn: deadlines, cancellation, batches, lists, figures.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <set>

#include "ipc/base/process_ref.hpp"
#include "ipc/wire/limits.hpp"
#include "tests/integration/hostile/hostile_session.hpp"

using namespace cleanfork;
using namespace cleanfork::testing;

namespace {

v1::ClientMessage cancel(std::uint64_t request) {
    v1::ClientMessage m;
    m.mutable_cancel()->set_request_id(request);
    return m;
}

v1::ClientMessage batch(std::initializer_list<v1::SpawnRequest> items) {
    v1::ClientMessage m;
    for (const v1::SpawnRequest& r : items) *m.mutable_batch()->add_items() = r;
    return m;
}

// The order in which the session hears of things: "spawn", "batch", "exits", ...
std::string kind(const reply& r) {
    switch (r.message.body_case()) {
        case v1::ServerMessage::kSpawn: return "spawn";
        case v1::ServerMessage::kBatch: return "batch";
        case v1::ServerMessage::kExits: return "exits";
        default: return "other";
    }
}

}  // namespace

TEST_CASE("a spawn whose deadline has passed fails at its turn and makes no process") {
    test_daemon daemon;
    raw_session s(daemon);
    v1::SpawnRequest r = program({"/bin/true"});
    r.set_queue_timeout_ns(0);
    const failure f = s.spawn_failure(r);
    CHECK(f.step == step::queue);
    CHECK(f.error_number == ETIMEDOUT);
    CHECK(s.stats().spawned_total() == 0);
    r.set_queue_timeout_ns(3'600'000'000'000U);
    CHECK(s.await_exit(s.spawn(r).id).code() == 0);
}

TEST_CASE("a queued spawn is cancelled; one that has begun is not") {
    test_daemon daemon;
    raw_session s(daemon);
    daemon.stop();
    const std::uint64_t first = s.post_spawn(program({"/bin/true"}));
    const std::uint64_t second = s.post_spawn(program({"/bin/true"}));
    v1::ClientMessage m = cancel(second);
    m.set_request_id(s.next_id());
    const std::uint64_t cancels = m.request_id();
    REQUIRE(s.send(m));
    daemon.signal(SIGCONT);
    const failure f = failure_in(s.reply_to(second));
    CHECK(f.step == step::queue);
    CHECK(f.error_number == ECANCELED);
    CHECK(s.reply_to(cancels).message.cancel().cancelled());
    CHECK(s.reply_to(first).message.spawn().has_spawned());
    CHECK_FALSE(s.request(cancel(first)).message.cancel().cancelled());
    CHECK_FALSE(s.request(cancel(4711)).message.cancel().cancelled());
    CHECK(s.stats().spawned_total() == 1);
}

TEST_CASE("a session cannot cancel the spawns of another") {
    test_daemon daemon;
    raw_session a(daemon);
    raw_session b(daemon);
    daemon.stop();
    const std::uint64_t request = a.post_spawn(program({"/bin/true"}));
    REQUIRE(b.send(cancel(request)));
    daemon.signal(SIGCONT);
    CHECK(a.reply_to(request).message.spawn().has_spawned());
}

TEST_CASE("a cancelled batch fails in all its items") {
    test_daemon daemon;
    raw_session s(daemon);
    daemon.stop();
    v1::ClientMessage m = batch({program({"/bin/true"}), program({"/bin/true"})});
    m.set_request_id(s.next_id());
    const std::uint64_t request = m.request_id();
    // Else it has begun when its cancellation is read.
    const std::uint64_t before = s.post_spawn(program({"/bin/true"}));
    REQUIRE(s.send(m));
    REQUIRE(s.send(cancel(request)));
    daemon.signal(SIGCONT);
    const reply r = s.reply_to(request);
    REQUIRE(r.message.batch().items_size() == 2);
    for (const v1::SpawnReply& item : r.message.batch().items())
        CHECK(ipc::from_wire(item.failure()).error_number == ECANCELED);
    CHECK(s.reply_to(before).message.spawn().has_spawned());
    CHECK(s.stats().spawned_total() == 1);
}

TEST_CASE("a batch gives each item its own result, in order, with a pidfd for each child") {
    test_daemon daemon;
    raw_session s(daemon);
    v1::SpawnRequest invalid = program({"/bin/true"});
    invalid.mutable_exec()->clear_argv();
    v1::SpawnRequest elsewhere = program({"/bin/true"});
    elsewhere.set_cwd_path("/no/such/directory");
    const reply r = s.request(batch({shell("exit 1"), program({"/no/such/program"}), invalid,
                                     elsewhere, shell("kill -TERM $$")}));
    const auto& items = r.message.batch().items();
    REQUIRE(items.size() == 5);
    REQUIRE(items[0].has_spawned());
    CHECK(items[0].spawned().pidfd_descriptor() == 1);
    CHECK(ipc::from_wire(items[1].failure()).step == step::exec);
    CHECK(ipc::from_wire(items[1].failure()).error_number == ENOENT);
    CHECK(ipc::from_wire(items[2].failure()).step == step::request);
    CHECK(ipc::from_wire(items[3].failure()).step == step::chdir);
    REQUIRE(items[4].has_spawned());
    CHECK(items[4].spawned().pidfd_descriptor() == 2);
    CHECK(r.descriptors.size() == 2);
    CHECK(s.await_exit(items[0].spawned().child()).code() == 1);
    CHECK(s.await_exit(items[4].spawned().child()).signal() == SIGTERM);
}

TEST_CASE("the items of a batch share the descriptors of its packet") {
    test_daemon daemon;
    raw_session s(daemon);
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    const unique_fd out(ends[0]);
    unique_fd in(ends[1]);
    v1::SpawnRequest r = shell("echo x");
    map_descriptor(r, 1, STDOUT_FILENO);
    v1::ClientMessage m = batch({r, r, r});
    m.add_descriptors(v1::DESCRIPTOR_PURPOSE_CHILD);
    const int fds[] = {in.get()};
    CHECK(s.request(m, fds).message.batch().items_size() == 3);
    in.reset();
    // The end comes when neither a child nor the forkserver holds it any more.
    std::string text;
    char part[64];
    for (ssize_t n; (n = ::read(out.get(), part, sizeof part)) > 0;)
        text.append(part, static_cast<std::size_t>(n));
    CHECK(text == "x\nx\nx\n");
}

TEST_CASE("exits are told after the reply that names the child") {
    test_daemon daemon;
    raw_session s(daemon);
    v1::ClientMessage m;
    for (std::size_t i = 0; i < ipc::k_max_batch; ++i)
        *m.mutable_batch()->add_items() = program({helper_path("nothing")});
    m.set_request_id(s.next_id());
    REQUIRE(s.send(m));
    auto first = s.receive();
    REQUIRE(first.has_value());
    CHECK(kind(*first) == "batch");
    for (const v1::SpawnReply& item : first->message.batch().items())
        CHECK(s.await_exit(item.spawned().child()).code() == 0);
    for (int i = 0; i < 50; ++i) {
        s.post_spawn(program({helper_path("nothing")}));
        const auto r = s.receive();
        REQUIRE(r.has_value());
        CHECK(kind(*r) == "spawn");
        s.await_exit(r->message.spawn().spawned().child());
    }
}

TEST_CASE("a held reply brings the exit of a short child, and the pidfd of a long one") {
    test_daemon daemon;
    raw_session s(daemon);
    v1::SpawnRequest r = shell("exit 4");
    r.set_reply_hold_us(static_cast<std::uint32_t>(ipc::k_max_reply_hold.count()));
    int with_exit = 0;
    for (int i = 0; i < 20; ++i) {
        const v1::SpawnReply got = s.try_spawn(r);
        REQUIRE(got.has_spawned());
        with_exit += got.spawned().has_exit() ? 1 : 0;
        CHECK(got.spawned().has_exit() == (got.spawned().pidfd_descriptor() == 0));
        CHECK(s.await_exit(got.spawned().child()).code() == 4);
    }
    CHECK(with_exit > 0);
    v1::SpawnRequest stays = sleeper();
    // More than allowed is cut to what is allowed: the reply comes all the same.
    stays.set_reply_hold_us(3'600'000'000U);
    const live_child c = s.spawn(stays);
    CHECK(bool(c.pidfd));
    CHECK_FALSE(s.exits.contains(c.id));
}

TEST_CASE("a list of thousands of children arrives in one packet") {
    test_daemon daemon;
    raw_session s(daemon);
    constexpr int k_batches = 40;
    v1::ClientMessage m;
    for (std::size_t i = 0; i < ipc::k_max_batch; ++i) {
        v1::SpawnRequest r = sleeper();
        r.mutable_exec()->add_argv(std::string(300, 'x'));
        *m.mutable_batch()->add_items() = r;
    }
    std::set<std::uint64_t> ids;
    for (int i = 0; i < k_batches; ++i) {
        const reply r = s.request(m);
        for (const v1::SpawnReply& item : r.message.batch().items()) {
            REQUIRE(item.has_spawned());
            ids.insert(item.spawned().child());
        }
    }
    baseline before(s);
    const v1::ListReply l = s.list();
    CHECK(l.ByteSizeLong() > ipc::k_max_inline_body);
    CHECK(l.children_size() == static_cast<int>(ids.size()));
    for (const v1::ChildInfo& c : l.children()) {
        REQUIRE(ids.erase(c.child()) == 1);
        REQUIRE(c.command().size() == 256);  // cut
    }
    before.expect_again();
}

TEST_CASE("statistics count what has happened") {
    test_daemon daemon;
    raw_session s(daemon);
    const live_child stays = s.spawn(sleeper());
    const live_child gone = s.spawn(shell("exit 1"));
    s.await_exit(gone.id);
    s.spawn_failure(program({"/no/such/program"}));
    raw_session(daemon).close();
    const v1::StatsReply st =
        s.stats_until([](const v1::StatsReply& x) { return x.sessions() == 1; });
    CHECK(st.pid() == daemon.pid());
    CHECK(st.sessions_total() == 2);
    CHECK(st.children() == 1);
    CHECK(st.statuses() == 1);
    CHECK(st.queued() == 0);
    CHECK(st.spawned_total() == 2);
    CHECK(st.failed_total() == 1);
    CHECK(st.exited_total() == 1);
    CHECK(st.protocol_errors_total() == 0);
    CHECK(st.spawn_ns_total() >= st.spawn_ns_max());
    CHECK(st.spawn_ns_max() > 0);
    CHECK(st.uptime_ns() > 0);
    CHECK(st.rss_kib() > 1000);
    CHECK(st.instance().size() == 32);
    CHECK(ipc::pidfd_signal(stays.pidfd.get(), SIGKILL) == 0);
}

TEST_CASE("sessions take turns: one with a long queue does not hold up the other") {
    test_daemon daemon;
    raw_session busy(daemon);
    raw_session quick(daemon);
    daemon.stop();
    std::vector<std::uint64_t> queued;
    for (int i = 0; i < 10; ++i)
        queued.push_back(busy.post_spawn(program({helper_path("nothing")})));
    const std::uint64_t request = quick.post_spawn(program({helper_path("nothing")}));
    daemon.signal(SIGCONT);
    const reply r = quick.reply_to(request);
    REQUIRE(r.message.spawn().has_spawned());
    // Processes are numbered as they are made; when each begins its program is another matter.
    std::size_t before = 0;
    for (const std::uint64_t id : queued) {
        const reply other = busy.reply_to(id);
        REQUIRE(other.message.spawn().has_spawned());
        before += other.message.spawn().spawned().pid() < r.message.spawn().spawned().pid() ? 1 : 0;
    }
    CHECK(before <= 3);
}
