// A listening daemon is killed: what its clients still know, and what they can do.
#include <doctest/doctest.h>
#include <sys/wait.h>

#include <array>
#include <atomic>
#include <cleanfork/client.hpp>
#include <csignal>
#include <thread>

#include "ipc/base/process_ref.hpp"
#include "tests/integration/hostile/hostile_daemon.hpp"

using namespace cleanfork;
using namespace cleanfork::testing;

namespace {

constexpr int k_children = 100;
constexpr std::array k_signals{SIGKILL, SIGTERM, SIGSEGV, SIGABRT, SIGUSR1, SIGHUP};

// Ends when its standard input does: with a code of its own, or by a signal.
spawn_options ends_when_told(int i) {
    const auto at = static_cast<std::size_t>(i);
    const std::string end =
        i % 3 == 0 ? "kill -" + std::to_string(k_signals[at % k_signals.size()]) + " $$"
                   : "exit " + std::to_string(i);
    return {.program = "/bin/sh", .args = {"-c", "read x; " + end}, .in = stdio::pipe{}};
}

exit_status expected(int i) {
    const auto at = static_cast<std::size_t>(i);
    return i % 3 == 0 ? exit_status::signaled(k_signals[at % k_signals.size()], false)
                      : exit_status::exited(i);
}

// No core files: the flag would depend on the machine.
std::vector<process> spawn_all(const client& c) {
    std::vector<process> all;
    for (int i = 0; i < k_children; ++i) {
        spawn_options o = ends_when_told(i);
        o.rlimits.push_back({RLIMIT_CORE, 0, 0});
        all.push_back(c.spawn(o));
    }
    return all;
}

void tell_to_end(std::vector<process>& all) {
    for (process& p : all) p.take_in().reset();
}

// The orphans are ours to reap, as they are init's elsewhere.
std::thread reap_all() {
    return std::thread([] {
        for (int i = 0; i < k_children; ++i) CHECK(::waitpid(-1, nullptr, 0) > 0);
    });
}

}  // namespace

TEST_CASE("kill -9 of the daemon with 100 live children: 100 exact statuses") {
    const subreaper parent;
    test_daemon daemon;
    const client c = connect({.path = daemon.socket()});
    std::vector<process> all = spawn_all(c);
    daemon.signal(SIGKILL);
    CHECK(WTERMSIG(daemon.wait()) == SIGKILL);
    for (const process& p : all) CHECK(p.running());
    tell_to_end(all);
    std::thread reaping = reap_all();
    for (int i = 0; i < k_children; ++i) {
        const exit_status s = all[static_cast<std::size_t>(i)].wait();
        CHECK_MESSAGE(s == expected(i), i, ": ", s.to_string());
    }
    reaping.join();
}

TEST_CASE("the same on a kernel without exit information: 100 unknown, and no hang") {
    const subreaper parent;
    test_daemon daemon({.environment = {"CLEANFORK_DISABLE_FEATURES=pidfd_exit_info"}});
    const client c = connect({.path = daemon.socket()});
    std::vector<process> all = spawn_all(c);
    daemon.signal(SIGKILL);
    daemon.wait();
    tell_to_end(all);
    for (const process& p : all) {
        const exit_status s = p.wait();
        CHECK(s.is_unknown());
        CHECK(s.why() == "forkserver lost");
    }
    reap_all().join();
}

TEST_CASE("statuses the daemon had reaped, and told nobody, are exact too") {
    const subreaper parent;
    test_daemon daemon;
    const client c = connect({.path = daemon.socket()});
    const client other = connect({.path = daemon.socket()});
    std::vector<process> all = spawn_all(c);
    tell_to_end(all);
    // The other client learns that they have ended; this one has not read a word of it.
    while (other.stats().children != 0) {
    }
    daemon.signal(SIGKILL);
    daemon.wait();
    for (int i = 0; i < k_children; ++i)
        CHECK(all[static_cast<std::size_t>(i)].wait() == expected(i));
}

TEST_CASE(
    "a child that outlives the daemon is signalled all the same, and the next daemon serves") {
    const subreaper parent;
    test_daemon daemon;
    client c = connect({.path = daemon.socket()});
    const process p = c.spawn({.program = "/bin/sleep", .args = {"infinity"}});
    daemon.signal(SIGKILL);
    daemon.wait();
    CHECK_THROWS_AS(c.stats(), spawn_error);
    CHECK_FALSE(c.connected());
    p.request_exit();
    CHECK(ipc::pidfd_wait(p.native_handle(), ipc::pidfd_event::ended, k_patience_ms));
    CHECK(subreaper::reap() == 1);
    CHECK(p.wait() == exit_status::signaled(SIGTERM, false));

    const notify_socket notify;
    program_options options{.args = {"--socket", daemon.socket()}};
    options.environment = {notify.variable()};
    const started next = start_daemon(options);
    REQUIRE(notify.receive(next.pidfd.get()) == "READY=1");
    c = connect({.path = daemon.socket()});
    CHECK(c.spawn({.program = "/bin/true"}).wait().success());
    c.shutdown();
    CHECK(reap(next) == 0);
}

TEST_CASE("requests under way when the daemon is killed fail with the loss, none hangs") {
    const subreaper parent;
    test_daemon daemon;
    const client c = connect({.path = daemon.socket()});
    daemon.stop();
    std::vector<std::thread> callers;
    std::atomic<int> lost = 0;
    for (int i = 0; i < 8; ++i)
        callers.emplace_back([&] {
            const auto r = c.try_spawn({.program = "/bin/true"});
            lost += !r && r.error().step == step::connect;
        });
    daemon.signal(SIGKILL);
    for (std::thread& t : callers) t.join();
    CHECK(lost == 8);
    daemon.wait();
}
