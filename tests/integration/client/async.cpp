// Completion tokens of every kind, against a real forkserver.
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/bind_executor.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>
#include <thread>

#include "tests/integration/client/client_support.hpp"

using namespace cleanfork;
using namespace cleanfork::test;
namespace asio = boost::asio;
using asio::awaitable;
using asio::use_awaitable;

namespace {

// Runs `body` to its end; what it throws is the test's failure.
void run_coroutine(asio::io_context& io, awaitable<void> body) {
    std::exception_ptr failed;
    asio::co_spawn(io, std::move(body), [&](std::exception_ptr e) { failed = std::move(e); });
    io.run();
    if (failed) std::rethrow_exception(failed);
}

}  // namespace

TEST_CASE("a callback chain spawns and waits on one context") {
    asio::io_context io;
    const client c = launch(io.get_executor());
    process held;
    exit_status s;
    c.async_spawn(shell("exit 5"), [&](const std::exception_ptr& e, process p) {
        CHECK(!e);
        held = std::move(p);
        held.async_wait([&](boost::system::error_code ec, const exit_status& status) {
            CHECK(!ec);
            s = status;
        });
    });
    io.run();
    CHECK(s.code() == 5);
    // Of one that has ended, at once, but never inside the call.
    bool called = false;
    held.async_wait(
        [&](boost::system::error_code, const exit_status& status) { called = status.code() == 5; });
    CHECK_FALSE(called);
    io.restart();
    io.run();
    CHECK(called);
}

TEST_CASE("two hundred spawns are in flight at once") {
    asio::io_context io;
    const client c = launch(io.get_executor());
    int good = 0;
    std::vector<std::shared_ptr<process>> held;
    for (int i = 0; i < 200; ++i)
        c.async_spawn(
            shell("exit " + std::to_string(i)), [&, i](const std::exception_ptr& e, process p) {
                CHECK(!e);
                held.push_back(std::make_shared<process>(std::move(p)));
                held.back()->async_wait([&, i](boost::system::error_code, const exit_status& s) {
                    good += s.code() == i;
                });
            });
    io.run();
    CHECK(good == 200);
}

TEST_CASE("futures work from other threads, and carry the spawn_error") {
    asio::thread_pool pool(1);
    const client c = launch(pool.get_executor());
    process p = c.async_spawn({.program = "true"}, asio::use_future).get();
    CHECK(p.async_wait(asio::use_future).get().success());
    auto failed = c.async_spawn({.program = "no-such-program-here"}, asio::use_future);
    CHECK_THROWS_AS(failed.get(), spawn_error);
    CHECK(c.async_list(asio::use_future).get().empty());
    CHECK(c.async_stats(asio::use_future).get().spawned_total == 1);
    c.async_update_base(asio::use_future).get();
    const auto all =
        c.async_spawn_batch({shell("exit 1"), shell("exit 2")}, asio::use_future).get();
    CHECK(all.at(1)->wait().code() == 2);
    CHECK(c.async_spawn_batch({}, asio::use_future).get().empty());
    c.async_shutdown(asio::use_future).get();
    pool.join();
}

TEST_CASE("coroutines launch, spawn, run, and wait") {
    asio::io_context io;
    run_coroutine(io, [](asio::any_io_executor executor) -> awaitable<void> {
        const launch_options launching;
        const client c = co_await async_launch(executor, launching, use_awaitable);
        const spawn_options exiting = shell("exit 6");
        const process p = co_await c.async_spawn(exiting, use_awaitable);
        const exit_status s = co_await p.async_wait(use_awaitable);
        CHECK(s.code() == 6);
        const spawn_options cat{.program = "cat", .in = stdio::pipe{}, .out = stdio::pipe{}};
        const std::string data(3 << 20, 'z');
        const run_result r = co_await c.async_run(cat, data, use_awaitable);
        CHECK((r.out == data));
        const spawn_options missing{.program = "no-such-program-here"};
        bool threw = false;
        try {
            (void)co_await c.async_run(missing, std::string(), use_awaitable);
        } catch (const spawn_error& e) {
            threw = e.step() == step::exec;
        }
        CHECK(threw);
    }(io.get_executor()));
}

TEST_CASE("a launch that fails reaches the completion handler") {
    asio::io_context io;
    launch_options o;
    failure f;
    o.daemon = "/bin/false";
    async_launch(io.get_executor(), o, [&](const std::exception_ptr& e, const client& c) {
        f = failure_of(e);
        CHECK_FALSE(c.valid());
    });
    io.run();
    CHECK(f.step == step::launch);
    connect_options nowhere{.path = "/no/such/socket"};
    async_connect(io.get_executor(), nowhere,
                  [&](const std::exception_ptr& e, const client&) { f = failure_of(e); });
    io.restart();
    io.run();
    CHECK(f.step == step::connect);
}

TEST_CASE("a cancelled wait leaves the child alone") {
    asio::io_context io;
    const client c = launch(io.get_executor());
    const process p = c.spawn({.program = "sleep", .args = {"infinity"}});
    asio::cancellation_signal signal;
    boost::system::error_code result;
    p.async_wait(asio::bind_cancellation_slot(
        signal.slot(), [&](boost::system::error_code ec, const exit_status&) { result = ec; }));
    signal.emit(asio::cancellation_type::terminal);
    io.run();
    CHECK(result == asio::error::operation_aborted);
    CHECK(p.running());
    p.terminate();
    CHECK(p.wait().signal() == SIGKILL);
}

TEST_CASE("a cancelled run kills its child") {
    asio::io_context io;
    const client c = launch(io.get_executor());
    asio::cancellation_signal signal;
    failure f;
    spawn_options o = shell("echo begun >&7; exec sleep infinity");
    int fds[2];
    REQUIRE(::pipe(fds) == 0);
    const unique_fd read_end(fds[0]);
    unique_fd write_end(fds[1]);
    o.fds = {{write_end.get(), 7}};
    c.async_run(
        o, {},
        asio::bind_cancellation_slot(signal.slot(), [&](const std::exception_ptr& e,
                                                        const run_result&) { f = failure_of(e); }));
    write_end.reset();
    char text[8];
    REQUIRE(::read(read_end.get(), text, sizeof text) == 6);
    signal.emit(asio::cancellation_type::terminal);
    io.run();
    CHECK(f.error_number == ECANCELED);
    CHECK(::read(read_end.get(), text, sizeof text) == 0);  // it is gone
}

TEST_CASE("a timer beside a wait decides, as coroutine operators do it") {
    asio::io_context io;
    run_coroutine(io, [](asio::any_io_executor executor) -> awaitable<void> {
        using namespace asio::experimental::awaitable_operators;
        const client c = launch(executor);
        const spawn_options sleeping{.program = "sleep", .args = {"infinity"}};
        const process p = co_await c.async_spawn(sleeping, use_awaitable);
        asio::steady_timer timer(executor, 20ms);
        const auto first =
            co_await (p.async_wait(use_awaitable) || timer.async_wait(use_awaitable));
        CHECK(first.index() == 1);
        CHECK(p.running());
    }(io.get_executor()));
}

TEST_CASE("handlers run where they belong") {
    asio::io_context io, other;
    const client c = launch(io.get_executor());
    bool in_other = false;
    c.async_spawn({.program = "true"},
                  asio::bind_executor(other, [&](const std::exception_ptr&, const process&) {
                      in_other = other.get_executor().running_in_this_thread();
                  }));
    io.run();
    CHECK_FALSE(in_other);
    other.run();
    CHECK(in_other);
}

TEST_CASE("a client on a strand of a pool with threads completes on the strand") {
    asio::thread_pool pool(3);
    const auto strand = asio::make_strand(pool);
    {
        const client c = launch(strand);
        std::atomic<int> inside = 0, overlaps = 0, done = 0;
        std::vector<std::future<void>> all;
        for (int i = 0; i < 40; ++i) {
            auto promise = std::make_shared<std::promise<void>>();
            all.push_back(promise->get_future());
            spawn_options o{.program = "cat", .in = stdio::pipe{}, .out = stdio::pipe{}};
            c.async_run(o, std::string(100'000, 'q'),
                        [&, promise](const std::exception_ptr& e, const run_result& r) {
                            if (++inside != 1) ++overlaps;
                            if (!e && r.out.size() == 100'000) ++done;
                            --inside;
                            promise->set_value();
                        });
        }
        for (auto& f : all) f.get();
        CHECK(overlaps == 0);
        CHECK(done == 40);
    }
    pool.join();
}
