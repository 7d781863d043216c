// A forked copy of a program that has a client: what it destroys is the original's.
#include <boost/asio/io_context.hpp>
#include <optional>

#include "tests/integration/boost_process/boost_process_support.hpp"
#include "tests/integration/client/client_support.hpp"

using namespace cleanfork;
using namespace cleanfork::test;

namespace {

// Runs `act` in a forked copy, single-threaded here, until it has ended.
template <class Act>
void in_forked_copy(Act&& act) {
    const pid_t copy = ::fork();
    if (copy == 0) {
        act();
        ::_exit(0);
    }
    int status = 1;
    REQUIRE(::waitpid(copy, &status, 0) == copy);
    REQUIRE(status == 0);
}

}  // namespace

TEST_CASE("a forked copy that destroys its client ends neither the session nor its children") {
    std::optional<client> c(launch());
    std::optional<process> p(c->spawn({.program = "sleep", .args = {"infinity"}}));
    in_forked_copy([&] {
        p.reset();
        c.reset();
    });
    CHECK(c->connected());
    CHECK(p->running());
    CHECK(c->run({.program = "true"}).status.success());
    p->signal(SIGKILL);
    CHECK(p->wait().signal() == SIGKILL);
}

TEST_CASE("a forked copy that destroys its handles leaves the waits of the original alone") {
    boost::asio::io_context io;
    std::optional<client> c(launch(io.get_executor()));
    std::optional<process> p(c->spawn({.program = "sleep", .args = {"infinity"}}));
    std::optional<exit_status> end;
    p->async_wait([&](boost::system::error_code, const exit_status& s) { end = s; });
    io.poll();
    in_forked_copy([&] {
        p.reset();
        c.reset();
    });
    p->signal(SIGTERM);
    io.run();
    REQUIRE(end);
    CHECK(end->signal() == SIGTERM);
}

TEST_CASE("a forked copy that destroys a process of Boost's kind does not kill it") {
    boost::asio::io_context io;
    std::optional<boost_process::process> p(
        std::in_place, io, "/bin/sh",
        std::initializer_list<boost_process::string_view>{"-c", "exec sleep infinity"});
    boost_process_test::outcome o;
    p->async_wait(o.handler());
    io.poll();
    in_forked_copy([&] { p.reset(); });
    CHECK(p->running());
    p->request_exit();
    io.run();
    CHECK(o.code == SIGTERM);
}
