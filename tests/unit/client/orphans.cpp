// Exit statuses after the forkserver is lost: by the pidfd, without a spin and without an
// invention.

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/io_context.hpp>

#include "tests/unit/client/client_peer.hpp"

using namespace cleanfork;
using namespace cleanfork::test;
using namespace std::chrono_literals;

namespace {

process adopt(const client& c, peer& p, const own_child& child) {
    std::thread answering(
        [&] { p.answer_spawn(p.next().message.request_id(), 1, child.pid(), child.pidfd()); });
    process got = c.spawn({.program = "/x"});
    answering.join();
    return got;
}

// Runs what becomes ready in `io`; how many handlers there were.
std::size_t run_for(boost::asio::io_context& io, std::chrono::milliseconds t) {
    io.restart();
    return io.run_for(t);
}

}  // namespace

TEST_CASE("the exact status of an orphan comes once its new parent has reaped it") {
    peer p;
    const client c = greeted_client(p);
    own_child child("exit 42");
    const process got = adopt(c, p, child);
    p.close();
    REQUIRE(child.ended());
    CHECK_FALSE(got.running());
    CHECK_FALSE(got.wait_for(1ms));  // a zombie: only its parent knows
    CHECK_FALSE(c.connected());
    child.reap();
    CHECK(got.wait().code() == 42);
    CHECK(got.status()->code() == 42);
}

TEST_CASE("without exit information the status of an orphan is unknown, never a number") {
    peer p;
    const client c = greeted_client(p, {}, false);
    own_child child("exit 42");
    const process got = adopt(c, p, child);
    p.close();
    REQUIRE(child.ended());
    const exit_status s = got.wait();
    CHECK(s.is_unknown());
    CHECK(s.why() == "forkserver lost");
    CHECK(s.code() == -1);
}

TEST_CASE("an asynchronous wait for a zombie neither spins nor misses the reap") {
    peer p;
    boost::asio::io_context io;
    const client c = greeted_client(p, io.get_executor());
    own_child child("kill -9 $$");
    const process got = adopt(c, p, child);
    exit_status s;
    bool done = false;
    got.async_wait([&](boost::system::error_code ec, const exit_status& status) {
        CHECK(!ec);
        s = status;
        done = true;
    });
    p.close();
    REQUIRE(child.ended());
    // The zombie is held for 200 ms: a wait that spins has thousands of turns.
    CHECK(run_for(io, 200ms) < 100);
    CHECK_FALSE(done);
    child.reap();
    run_for(io, k_patience);
    CHECK(done);
    CHECK(s.signal() == SIGKILL);
}

TEST_CASE("asynchronous and blocking waits end together when the forkserver is lost") {
    peer p;
    boost::asio::io_context io;
    const client c = greeted_client(p, io.get_executor(), false);
    own_child child("read line");
    const process got = adopt(c, p, child);
    int done = 0;
    for (int i = 0; i < 3; ++i)
        got.async_wait([&](boost::system::error_code, const exit_status& s) {
            CHECK(s.is_unknown());
            ++done;
        });
    std::thread blocked([&] { CHECK(got.wait().is_unknown()); });
    p.close();
    ::kill(child.pid(), SIGKILL);
    run_for(io, k_patience);
    blocked.join();
    CHECK(done == 3);
}

TEST_CASE("a wait by pidfd can be cancelled, and leaves nothing in the context") {
    peer p;
    boost::asio::io_context io;
    const client c = greeted_client(p, io.get_executor());
    own_child child("exec sleep infinity");
    const process got = adopt(c, p, child);
    p.close();
    CHECK_FALSE(got.wait_for(1ms));  // finds the loss
    CHECK_FALSE(c.connected());
    boost::asio::cancellation_signal signal;
    boost::system::error_code result;
    got.async_wait(boost::asio::bind_cancellation_slot(
        signal.slot(), [&](boost::system::error_code ec, const exit_status&) { result = ec; }));
    signal.emit(boost::asio::cancellation_type::terminal);
    io.run();
    CHECK(result == boost::asio::error::operation_aborted);
}

TEST_CASE("a handle outlives its client: signals and status go through the pidfd") {
    peer p;
    client c = greeted_client(p);
    own_child child("exec sleep infinity");
    const process got = adopt(c, p, child);
    c = client();
    CHECK(got.running());
    got.signal(SIGTERM);
    REQUIRE(child.ended());
    child.reap();
    CHECK(got.wait().signal() == SIGTERM);
    boost::system::error_code ec;
    got.signal(SIGTERM, ec);
    CHECK(ec == boost::system::errc::no_such_process);
    CHECK(step_of(ec) == step::signal);
}

TEST_CASE("without exit information a destroyed client says that it is to blame") {
    peer p;
    client c = greeted_client(p, {}, false);
    own_child child("exit 42");
    const process got = adopt(c, p, child);
    c = client();
    CHECK(got.wait() == exit_status::unknown("client destroyed"));
}
