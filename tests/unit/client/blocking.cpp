// What ends a blocked call beside its reply, and what a thread does meanwhile.
#include "client/src/connection/child_state.hpp"
#include "client/src/requests/blocking_call.hpp"
#include "client/src/requests/server_requests.hpp"
#include "client/src/requests/spawn_requests.hpp"
#include "client/src/run/pipes.hpp"
#include "tests/unit/client/client_peer.hpp"

using namespace cleanfork;
using namespace cleanfork::detail;
using namespace cleanfork::test;
using namespace std::chrono_literals;

namespace {

// Due when it is asked for the nth time.
class due_at final : public interruption {
public:
    explicit due_at(int nth) : left_(nth) {}
    bool is_due() override { return --left_ <= 0; }
    [[nodiscard]] bool was_due() const { return left_ <= 0; }

private:
    int left_;
};

process spawned(const client& c, peer& p, const own_child& child) {
    std::thread answering(
        [&] { p.answer_spawn(p.next().message.request_id(), 1, child.pid(), child.pidfd()); });
    process got = c.spawn({.program = "/x"});
    answering.join();
    return got;
}

}  // namespace

TEST_CASE("a spawn that is interrupted is cancelled, as at a deadline") {
    peer p;
    const client c = greeted_client(p);
    const spawn_options options{.program = "/x"};
    outgoing m;
    due_at second(2);
    auto filled = spawn_request::fill(m, {}, options);
    const auto r =
        await_reply(*connection::of(c), m, std::move(*filled), {}, {.interrupted = &second});
    REQUIRE(r.has_error());
    CHECK(r.error().error_number == ETIMEDOUT);
    CHECK(second.was_due());
    const request spawn = p.next();
    CHECK(p.next().message.cancel().request_id() == spawn.message.request_id());
}

TEST_CASE("a request that is answered at once is not cancelled when it is interrupted") {
    peer p;
    const client c = greeted_client(p);
    outgoing m;
    due_at first(1);
    auto filled = list_request::fill(m, {});
    const auto r =
        await_reply(*connection::of(c), m, std::move(*filled), {}, {.interrupted = &first});
    CHECK(r.error().step == step::connect);
    CHECK(r.error().error_number == ETIMEDOUT);
    v1::ServerMessage late;
    late.set_request_id(p.next().message.request_id());
    late.mutable_list();
    p.send(late);  // ignored
    std::thread answering([&] {
        v1::ServerMessage stats;
        stats.set_request_id(p.next().message.request_id());
        stats.mutable_stats()->set_pid(12);
        p.send(stats);
    });
    CHECK(c.stats().pid == 12);
    answering.join();
}

TEST_CASE("a wait that is interrupted leaves nothing behind, and can be repeated") {
    for (const bool lost : {false, true}) {
        peer p;
        const client c = greeted_client(p, {}, false);
        own_child child("exec sleep 100");
        const process got = spawned(c, p, child);
        if (lost) p.close();
        due_at second(2);
        CHECK_FALSE(connection::of(got)->wait({}, {.interrupted = &second}));
        CHECK(second.was_due());
        if (lost)
            ::kill(child.pid(), SIGKILL);
        else
            p.tell_exit(1, 7);
        CHECK(got.wait().is_unknown() == lost);
    }
}

TEST_CASE("output without end does not outlast the timeout of a run") {
    peer p;
    const client c = greeted_client(p);
    own_child child("exec sleep 100");
    std::thread writing([&] {
        request r = p.next();
        p.answer_spawn(r.message.request_id(), 1, child.pid(), child.pidfd());
        const std::string much(64 * 1024, 'x');
        while (write_without_sigpipe(r.descriptors.front().get(), much.data(), much.size()) > 0) {
        }
    });
    const auto r = c.try_run({.program = "/x", .out = stdio::pipe{}}, {}, 50ms);
    writing.join();
    REQUIRE(r.has_error());
    CHECK(r.error().error_number == ETIMEDOUT);
    CHECK(child.ended());
}

TEST_CASE("a run that was cancelled while it was queued has timed out") {
    peer p;
    const client c = greeted_client(p);
    std::thread answering([&] {
        const request spawn = p.next();
        REQUIRE(p.next().message.has_cancel());
        v1::ServerMessage m;
        m.set_request_id(spawn.message.request_id());
        ipc::to_wire(ipc::fail(step::queue, ECANCELED), *m.mutable_failure());
        p.send(m);
    });
    const auto r = c.try_run({.program = "/x"}, {}, 10ms);
    answering.join();
    CHECK(r.error().step == step::queue);
    CHECK(r.error().error_number == ETIMEDOUT);
}
