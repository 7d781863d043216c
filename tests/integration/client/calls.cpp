// Calls and templates through the C++ client, with a real forkserver and a real template.
#include <doctest/doctest.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>
#include <cleanfork/client.hpp>

#include "ipc/base/fd.hpp"
#include "tests/integration/client/client_support.hpp"

using namespace cleanfork;
using namespace cleanfork::test;

namespace {

const std::string k_program = CLEANFORK_TEST_HELPER_DIR "/template_program";

// A private forkserver with a template "t".
struct served {
    boost::asio::io_context io;
    client c;
    explicit served(template_options o = {}) : c(launch(io.get_executor())) {
        o.process.program = k_program;
        c.add_template("t", o);
    }
};

call_options with_result() { return {.result = true}; }

}  // namespace

TEST_CASE("a call gathers streams, answer, exception and usage") {
    served s;
    const std::string large(1 << 20, 'x');
    call_options o = with_result();
    o.attributes.out = stdio::pipe{};
    o.attributes.err = stdio::pipe{};
    const call_result out = s.c.run_call("t", "write_stdout", large, o);
    CHECK(out.status.success());
    CHECK(out.out == "cout " + large + " printf\n");  // more than a pipe holds
    CHECK(out.result().empty());
    const call_result thrown = s.c.run_call("t", "throw", {}, {.args = {"why"}});
    CHECK(thrown.status.code() == 70);
    CHECK(thrown.error == "why");
    const call_result echoed = s.c.run_call("t", "echo", large, o);
    CHECK(echoed.result() == large);
    CHECK(echoed.err.empty());
    CHECK(echoed.pid > 0);
    CHECK(echoed.wall.count() > 0);
    CHECK(echoed.usage.max_rss_kib > 0);
}

TEST_CASE("an answer is the next call's payload without a copy") {
    served s;
    const call_result first = s.c.run_call("t", "echo", std::string(100'000, 'y'), with_result());
    REQUIRE(first.result_fd);
    CHECK((::fcntl(first.result_fd.get(), F_GET_SEALS) & F_SEAL_WRITE) != 0);
    const call_result second =
        s.c.run_call("t", "sum", stdio::descriptor{first.result_fd.get()}, with_result());
    CHECK(second.result().starts_with(std::to_string(100'000UL * 'y') + ' '));
}

TEST_CASE("a call that runs too long is killed") {
    served s;
    const auto r = s.c.try_run_call("t", "sleep", {}, {}, scaled(100ms));
    REQUIRE(r.has_error());
    CHECK(r.error().step == step::wait);
    CHECK(r.error().error_number == ETIMEDOUT);
    for (const child_info& child : s.c.list())
        if (child.template_name == "t") CHECK(ends(child.pid));
    CHECK(s.c.run_call("t", "nothing").status.success());
}

TEST_CASE("a process of a call is signalled and waited for as any other") {
    served s;
    const process p = s.c.call("t", "sleep");
    const auto listed = s.c.list();
    REQUIRE(listed.size() == 1);
    CHECK(listed[0].template_name == "t");
    CHECK(p.running());
    p.request_exit();
    CHECK(p.wait().signal() == SIGTERM);
    CHECK(p.error().empty());
}

TEST_CASE("calls in coroutines, many at once") {
    served s({.warm = 2});
    int good = 0;
    const auto one = [&](int i) -> boost::asio::awaitable<void> {
        const call_options o{.args = {std::to_string(i % 7)}, .result = true};
        const call_result r =
            co_await s.c.async_run_call("t", "exit", {}, o, boost::asio::use_awaitable);
        if (r.status.code() == i % 7) ++good;
    };
    for (int i = 0; i < 200; ++i)
        boost::asio::co_spawn(s.io, one(i), [](const std::exception_ptr& e) { CHECK(!e); });
    s.io.run();
    CHECK(good == 200);
}

TEST_CASE("a run that is cancelled kills its child") {
    served s;
    boost::asio::cancellation_signal cancel;
    failure f;
    s.c.async_run_call("t", "sleep", {}, {},
                       boost::asio::bind_cancellation_slot(
                           cancel.slot(), [&](const std::exception_ptr& e, const call_result&) {
                               f = failure_of(e);
                           }));
    while (s.c.list().empty()) {
    }
    const pid_t pid = s.c.list().front().pid;
    cancel.emit(boost::asio::cancellation_type::total);
    s.io.run();
    CHECK(f.error_number == ECANCELED);
    CHECK(ends(pid));
}

TEST_CASE("an unknown template or entry, and one that failed, are told at once") {
    served s;
    CHECK(s.c.try_call("nobody", "e").error().step == step::template_name);
    CHECK(s.c.try_call("t", "nobody").error().step == step::entry);
    template_options o{.process = {.program = k_program}};
    o.process.env.set["TEMPLATE_INIT"] = "thread";
    const auto refused = s.c.try_add_template("unclean", o);
    REQUIRE(refused.has_error());
    CHECK(refused.error().step == step::clean);
    CHECK(s.c.template_info("unclean").state == template_state::refused);
    CHECK(s.c.try_call("unclean", "nothing").has_error());
    CHECK(s.c.try_template_info("nobody").error().step == step::template_name);
    CHECK(s.c.try_reload_template("nobody").error().step == step::template_name);
    CHECK_THROWS_AS(s.c.remove_template("nobody"), spawn_error);
}

TEST_CASE("descriptors do not gather in the client") {
    served s;
    const auto work = [&] {
        call_options o = with_result();
        o.fds = {{"a", 0}, {"b", 1}};
        o.attributes.out = stdio::pipe{};
        s.c.run_call("t", "echo", std::string(100'000, 'z'), o);
        (void)s.c.try_run_call("t", "nobody", std::string(100'000, 'z'), o);
        (void)s.c.try_run_call("nobody", "x", {}, o);
    };
    work();
    const std::size_t before = ipc::open_descriptor_count();
    for (int i = 0; i < 50; ++i) work();
    CHECK(ipc::open_descriptor_count() == before);
}
