// The forkserver is killed while children live.
#include <boost/asio/io_context.hpp>
#include <thread>

#include "tests/integration/client/client_support.hpp"

using namespace cleanfork;
using namespace cleanfork::test;

namespace {

constexpr int k_children = 100;

// A hundred children that end when told; each with a code of its own, or a signal.
std::vector<process> many(const client& c) {
    std::vector<process> all;
    for (int i = 0; i < k_children; ++i)
        all.push_back(
            c.spawn({.program = "sh",
                     .args = {"-c", "read x; " + (i % 10 == 0 ? std::string("kill -9 $$")
                                                              : "exit " + std::to_string(i))},
                     .in = stdio::pipe{}}));
    return all;
}

void kill_forkserver(const client& c) {
    const unique_fd pidfd = ipc::pidfd_open(c.server().pid);
    REQUIRE(ipc::pidfd_signal(pidfd.get(), SIGKILL) == 0);
    REQUIRE(ipc::pidfd_wait(pidfd.get(), ipc::pidfd_event::ended, k_patience_ms));
}

exit_status expected(int i) {
    return i % 10 == 0 ? exit_status::signaled(SIGKILL, false) : exit_status::exited(i);
}

void set_disabled(bool off) {
    if (off)
        ::setenv("CLEANFORK_DISABLE_FEATURES", "pidfd_exit_info", 1);
    else
        ::unsetenv("CLEANFORK_DISABLE_FEATURES");
}

}  // namespace

TEST_CASE("a hundred children of a killed forkserver have exact statuses") {
    const subreaper guard;
    const client c = launch();
    std::vector<process> all = many(c);
    kill_forkserver(c);
    for (process& p : all) p.take_in().reset();
    std::thread reaping([] {
        for (int i = 0; i < k_children; ++i) REQUIRE(subreaper::reap_any() > 0);
    });
    for (int i = 0; i < k_children; ++i)
        CHECK(all[static_cast<std::size_t>(i)].wait() == expected(i));
    reaping.join();
    CHECK_FALSE(c.connected());
    CHECK(c.try_spawn({.program = "true"}).error().error_number == ECONNRESET);
}

TEST_CASE("the same, asynchronously") {
    const subreaper guard;
    boost::asio::io_context io;
    const client c = launch(io.get_executor());
    std::vector<process> all = many(c);
    int exact = 0;
    for (int i = 0; i < k_children; ++i)
        all[static_cast<std::size_t>(i)].async_wait(
            [&, i](boost::system::error_code ec, const exit_status& s) {
                exact += !ec && s == expected(i);
            });
    kill_forkserver(c);
    for (process& p : all) p.take_in().reset();
    std::thread reaping([] {
        for (int i = 0; i < k_children; ++i) REQUIRE(subreaper::reap_any() > 0);
    });
    io.run();
    reaping.join();
    CHECK(exact == k_children);
}

TEST_CASE("with the feature off a hundred statuses are unknown, and nothing hangs") {
    const subreaper guard;
    set_disabled(true);
    const client c = launch();
    set_disabled(false);
    std::vector<process> all = many(c);
    kill_forkserver(c);
    for (process& p : all) p.take_in().reset();
    for (const process& p : all) {
        const exit_status s = p.wait();  // nobody has reaped them: the end is enough
        CHECK(s.is_unknown());
        CHECK(s.why() == "forkserver lost");
    }
    for (int i = 0; i < k_children; ++i) REQUIRE(subreaper::reap_any() > 0);
}

TEST_CASE("a run in progress ends with its child when the forkserver is killed") {
    const subreaper guard;
    const client c = launch();
    std::thread killing([&] {
        while (c.stats().children == 0) std::this_thread::yield();
        kill_forkserver(c);
        REQUIRE(subreaper::reap_any() > 0);  // the child; the forkserver is its reaper's
    });
    // Longer than the reply is held, so that the client has the pidfd.
    spawn_options o = shell("sleep 0.3; echo late; exit 8");
    o.out = stdio::pipe{};
    const auto r = c.try_run(o);
    killing.join();
    if (r) {
        CHECK(r->status.code() == 8);
        CHECK(r->out == "late\n");
    } else {
        CHECK(r.error().error_number == ECONNRESET);  // killed before it had answered
    }
}
