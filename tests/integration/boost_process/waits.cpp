// Asynchronous waits of cleanfork::boost_process beside those of Boost.Process v2.
#include <doctest/doctest.h>

#include "tests/integration/boost_process/boost_process_support.hpp"

using namespace boost_process_test;

TEST_CASE_TEMPLATE("async_wait tells the exit code, before or after the end", Library, boost_v2,
                   forkserver) {
    asio::io_context io;
    outcome early, late;
    auto p = start<Library>(io, "exit 7");
    p.async_wait(early.handler());
    io.run();
    CHECK(early.called);
    CHECK(!early.ec);
    CHECK(early.code == 7);
    CHECK(p.exit_code() == 7);
    p.async_wait(late.handler());
    CHECK(!late.called);  // never from within
    io.restart();
    io.run();
    CHECK(late.code == 7);
}

TEST_CASE_TEMPLATE("Destroying a process kills it and cancels its waits", Library, boost_v2,
                   forkserver) {
    asio::io_context io;
    outcome o;
    pid_t pid = 0;
    {
        auto p = start<Library>(io, "exec sleep infinity");
        pid = p.id();
        p.async_wait(o.handler());
        io.poll();
    }
    CHECK_FALSE(std::filesystem::exists("/proc/" + std::to_string(pid) + "/cwd/."));
    io.restart();
    io.run();
    CHECK(o.called);
    CHECK(o.ec == asio::error::operation_aborted);
}

TEST_CASE_TEMPLATE("A race of timer and child can be won by either", Library, boost_v2,
                   forkserver) {
    asio::io_context io;
    asio::steady_timer timer(io, std::chrono::milliseconds(20));
    outcome o;
    auto p = start<Library>(io, "exec sleep infinity");
    timer.async_wait([&](error_code ec) {
        if (!ec) p.request_exit();
    });
    p.async_wait(o.handler());
    io.run();
    CHECK(o.code == SIGTERM);
}

TEST_CASE("What Boost 1.81 forbids after async_wait works: wait, running and another wait") {
    asio::io_context io;
    bp::process p(io, "/bin/sh", {"-c", "exit 9"});
    auto future = p.async_wait(asio::use_future);
    io.run();
    CHECK(future.get() == 9);
    CHECK(p.wait() == 9);
    CHECK_FALSE(p.running());
    CHECK(p.native_handle() >= -1);
    bp::process empty;
    error_code ec;
    CHECK_FALSE(empty.running(ec));
    CHECK(empty.id() == -1);
}

TEST_CASE("Every kind of completion token and executor waits") {
    asio::io_context io;
    bp::basic_process<asio::io_context::executor_type> typed(io, "/bin/sh", {"-c", "exit 1"});
    bp::process p(std::move(typed));
    outcome awaited;
    asio::co_spawn(
        io,
        [&]() -> asio::awaitable<void> {
            awaited.code = co_await p.async_wait(asio::use_awaitable);
        },
        asio::detached);
    bp::process q(asio::make_strand(io), "/bin/sh", {"-c", "exit 2"});
    error_code as_error;
    q.async_wait(bp::code_as_error([&](error_code ec) { as_error = ec; }));
    io.run();
    CHECK(awaited.code == 1);
    CHECK(as_error.value() == 2);
    CHECK(as_error.category() == bp::error::get_exit_code_category());
}

TEST_CASE("A wait is cancelled without touching the child, and outlives a move of its process") {
    asio::io_context io;
    waiting_shell shell(io);
    asio::cancellation_signal cancel;
    outcome cancelled, told;
    shell.process.async_wait(asio::bind_cancellation_slot(cancel.slot(), cancelled.handler()));
    shell.process.async_wait(told.handler());
    io.poll();
    cancel.emit(asio::cancellation_type::terminal);
    io.poll();
    CHECK(cancelled.ec == asio::error::operation_aborted);
    CHECK_FALSE(told.called);
    bp::process moved(std::move(shell.process));
    CHECK(moved.running());
    moved.terminate();
    io.run();
    CHECK(told.code == SIGKILL);
    CHECK(moved.exit_code() == SIGKILL);
}

TEST_CASE("A context that does not run holds up no other one's waits") {
    asio::io_context idle, busy;
    outcome forgotten, told;
    bp::process p(idle, "/bin/true", std::vector<std::string>{});
    p.async_wait(forgotten.handler());
    bp::process q(busy, "/bin/true", std::vector<std::string>{});
    q.async_wait(told.handler());
    busy.run();
    CHECK(told.code == 0);
    CHECK_FALSE(forgotten.called);
}

// Asio may find an event of an earlier process there; Boost then blocks in waitpid().
TEST_CASE("In a context that is run again, a wait is for the end of its own process") {
    asio::io_context io;
    for (int i = 0; i < 10; ++i) {
        outcome o;
        asio::steady_timer limit(io, std::chrono::milliseconds(5));
        bp::process p(io, "/bin/sleep", {i % 2 == 0 ? "0" : "100"});
        p.async_wait([&](error_code ec, int code) {
            limit.cancel();
            o.handler()(ec, code);
        });
        limit.async_wait([&](error_code ec) {
            if (!ec && i % 2 != 0) p.request_exit();
        });
        io.restart();
        io.run();
        CHECK(o.code == (i % 2 == 0 ? 0 : SIGTERM));
    }
}

TEST_CASE("execute waits, async_execute signals the child when it is cancelled") {
    asio::io_context io;
    CHECK(bp::execute(start<forkserver>(io, "exit 5")) == 5);
    error_code ec;
    CHECK(bp::execute(start<forkserver>(io, "exit 6"), ec) == 6);
    const std::pair<asio::cancellation_type, int> ways[] = {
        {asio::cancellation_type::total, 31},
        {asio::cancellation_type::partial, 32},
        {asio::cancellation_type::terminal, SIGKILL}};
    for (const auto& [type, code] : ways) {
        waiting_shell shell(io, "trap 'exit 31' INT; trap 'exit 32' TERM; ");
        asio::cancellation_signal cancel;
        outcome o;
        bp::async_execute(std::move(shell.process),
                          asio::bind_cancellation_slot(cancel.slot(), o.handler()));
        io.restart();
        io.poll();
        cancel.emit(type);
        io.restart();
        io.run();
        CHECK(!o.ec);
        CHECK(o.code == code);
    }
}
