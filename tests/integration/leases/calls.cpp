// Calls of the client by leases: as any other, and sooner.
#include <doctest/doctest.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <cleanfork/client.hpp>
#include <set>
#include <sstream>
#include <thread>

#include "ipc/base/process_stat.hpp"
#include "tests/integration/client/client_support.hpp"
#include "tests/integration/hostile/hostile_daemon.hpp"

using namespace cleanfork;
using namespace cleanfork::test;

namespace {

const std::string k_program = CLEANFORK_TEST_HELPER_DIR "/template_program";

std::uint64_t leased(const client& c) { return c.template_info("t").current()->leased; }

std::set<pid_t> leased_pids(const client& c) {
    std::set<pid_t> all;
    for (const child_info& i : c.list())
        if (i.leased) all.insert(i.pid);
    return all;
}

// Until the session has its leases: it asks for one once it has called a second time.
void await_leases(const client& c, std::size_t count = 1) {
    const auto give_up = std::chrono::steady_clock::now() + k_patience;
    while (leased(c) < count) REQUIRE(std::chrono::steady_clock::now() < give_up);
}

// Returns when they have stopped.
void stop_all(const std::set<pid_t>& pids) {
    for (const pid_t pid : pids) REQUIRE(::kill(pid, SIGSTOP) == 0);
    for (const pid_t pid : pids)
        while (!ipc::stat_of(pid)->is_stopped()) {
        }
}

// A private forkserver with a template "t", of which this session has a lease for `o`.
struct leasing_client {
    client c;
    explicit leasing_client(const call_options& o = {}, template_options t = {.warm = 2})
        : c(launch()) {
        t.process.program = k_program;
        c.add_template("t", t);
        for (int i = 0; i < 2; ++i) REQUIRE(c.run_call("t", "nothing", {}, o).status.success());
        await_leases(c);
    }
};

}  // namespace

TEST_CASE("a session that calls again gets leases, and its calls run in them") {
    leasing_client f;
    for (int i = 0; i < 20; ++i) {
        await_leases(f.c);
        const std::set<pid_t> before = leased_pids(f.c);
        const call_result r = f.c.run_call("t", "exit", {}, {.args = {"9"}});
        CHECK(r.status.code() == 9);
        CHECK(r.usage.max_rss_kib > 0);
        CHECK(r.wall.count() > 0);
        CHECK(r.wall < 10s);
        CHECK(before.contains(r.pid));
    }
    await_leases(f.c);
    const std::set<pid_t> before = leased_pids(f.c);
    const process p = f.c.call("t", "sleep");
    CHECK(before.contains(p.id()));
    CHECK(p.running());
    p.terminate();
    CHECK(p.wait().signal() == SIGKILL);
    CHECK(f.c.template_info("t").calls_total == 23);
}

TEST_CASE("a leased call has streams, arguments, descriptors, payload and result as any other") {
    call_options o{.result = true};
    o.attributes.out = stdio::pipe{};
    o.attributes.err = stdio::pipe{};
    leasing_client f(o);
    const std::string large(1 << 20, 'x');
    const auto run = [&](const char* entry, const payload& p = {}) {
        await_leases(f.c);
        const std::set<pid_t> before = leased_pids(f.c);
        call_result r = f.c.run_call("t", entry, p, o);
        CHECK(before.contains(r.pid));
        return r;
    };
    CHECK(run("write_stdout", large).out == "cout " + large + " printf\n");
    CHECK(run("echo", large).result() == large);
    CHECK(run("echo", "small").result() == "small");
    o.args = {"one", "", "two words"};
    CHECK(run("args").result() == "one\n\ntwo words\n");
    o.args = {"why"};
    CHECK(run("throw").error == "why");
    CHECK(run("throw").status.code() == 70);
    CHECK(run("crash").status.signal() == SIGABRT);
    const unique_fd file(::memfd_create("named", MFD_CLOEXEC));
    REQUIRE(::pwrite(file.get(), "by name", 7, 0) == 7);
    o.fds = {{"why", file.get()}};
    CHECK(run("cat").result() == "by name");
}

TEST_CASE("what is wrong with a call is told as ever, when a lease would have run it") {
    leasing_client f;
    boost::system::error_code ec;
    (void)f.c.call("t", "nobody", {}, {}, ec);
    CHECK(ec == std::errc::no_such_file_or_directory);
    await_leases(f.c);
    const auto refused = f.c.try_run_call("t", "nobody");
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().step == step::entry);
    CHECK(refused.error().detail.find("the template has: ") == 0);
}

TEST_CASE("a lease is for calls with the same attributes alone") {
    leasing_client f;
    const auto umask_of = [&](mode_t mask) {
        call_options o{.result = true};
        o.attributes.umask = mask;
        const std::string status = f.c.run_call("t", "status", {}, o).result();
        return status.substr(status.find("Umask:\t") + 7, 4);
    };
    CHECK(umask_of(022) == "0022");
    CHECK(umask_of(077) == "0077");
    CHECK(umask_of(077) == "0077");
    await_leases(f.c, 2);
    CHECK(umask_of(077) == "0077");
    CHECK(umask_of(022) == "0022");
}

TEST_CASE("a call after a reload runs in the new generation, whatever was leased before") {
    leasing_client f;
    for (int i = 0; i < 5; ++i) {
        await_leases(f.c);
        f.c.reload_template("t");
        CHECK(f.c.run_call("t", "nothing").status.success());
        CHECK(f.c.template_info("t").generations.front().generation == unsigned(i) + 2);
        CHECK(f.c.run_call("t", "nothing").status.success());
    }
}

TEST_CASE("an environment that is told anew is that of the next call") {
    leasing_client f;
    ::setenv("LEASE_TEST", "new", 1);
    f.c.update_base();
    ::unsetenv("LEASE_TEST");
    const std::string env = f.c.run_call("t", "env", {}, {.result = true}).result();
    CHECK(env.find("LEASE_TEST=new\n") != std::string::npos);
}

TEST_CASE("a burst beyond the leases is served by the forkserver") {
    leasing_client f;
    std::vector<std::thread> threads;
    std::atomic<int> right = 0;
    for (int t = 0; t < 8; ++t)
        threads.emplace_back([&] {
            for (int i = 0; i < 20; ++i)
                if (f.c.run_call("t", "exit", {}, {.args = {"4"}}).status.code() == 4) ++right;
        });
    for (std::thread& t : threads) t.join();
    CHECK(right == 160);
    CHECK(leased(f.c) <= 2);
}

TEST_CASE("without leases, by template or by call, each call asks the forkserver") {
    client c = launch();
    template_options t{.warm = 2};
    t.process.program = k_program;
    call_options o;
    SUBCASE("by template") { t.leases = 0; }
    SUBCASE("by call") { o.leased = false; }
    c.add_template("t", t);
    for (int i = 0; i < 5; ++i) CHECK(c.run_call("t", "nothing", {}, o).status.success());
    CHECK(leased(c) == 0);
    CHECK(c.template_info("t").calls_total == 5);
}

TEST_CASE("a leased child that is killed while it waits costs its caller nothing") {
    leasing_client f;
    for (int i = 0; i < 5; ++i) {
        await_leases(f.c);
        for (const pid_t pid : leased_pids(f.c)) {
            const unique_fd pidfd = ipc::pidfd_open(pid);
            REQUIRE(ipc::pidfd_signal(pidfd.get(), SIGKILL) == 0);
        }
        CHECK(f.c.run_call("t", "exit", {}, {.args = {"3"}}).status.code() == 3);
        CHECK(f.c.call("t", "nothing").wait().success());
    }
}

TEST_CASE("one that is killed when it has been sent its call, too") {
    leasing_client f;
    const std::set<pid_t> pids = leased_pids(f.c);
    stop_all(pids);
    std::thread killer([&] {
        std::this_thread::sleep_for(100ms);
        for (const pid_t pid : pids) ::kill(pid, SIGKILL);
    });
    SUBCASE("call") { CHECK(f.c.call("t", "exit", {}, {.args = {"3"}}).wait().code() == 3); }
    SUBCASE("run_call") {
        CHECK(f.c.run_call("t", "exit", {}, {.args = {"3"}}).status.code() == 3);
    }
    killer.join();
}

TEST_CASE("a call that takes too long is ended, and its lease with it") {
    leasing_client f;
    const pid_t pid = *leased_pids(f.c).begin();
    SUBCASE("its entry does not return") {
        const auto r = f.c.try_run_call("t", "sleep", {}, {}, 50ms);
        REQUIRE_FALSE(r.has_value());
        CHECK(r.error().error_number == ETIMEDOUT);
    }
    SUBCASE("its child does not take the call") {
        stop_all(leased_pids(f.c));
        const auto p = f.c.try_call("t", "nothing", {}, {}, 50ms);
        REQUIRE_FALSE(p.has_value());
        CHECK(p.error().error_number == ETIMEDOUT);
    }
    CHECK(ends(pid));
}

TEST_CASE("a forked copy of the program has no leases") {
    leasing_client f;
    const std::set<pid_t> before = leased_pids(f.c);
    const pid_t copy = ::fork();
    if (copy == 0) ::_exit(f.c.run_call("t", "exit", {}, {.args = {"8"}}).status.code());
    int status = 0;
    REQUIRE(::waitpid(copy, &status, 0) == copy);
    CHECK(WEXITSTATUS(status) == 8);
    CHECK(leased_pids(f.c) == before);
}

TEST_CASE("a program that is killed leaves no leased child") {
    testing::test_daemon daemon;
    client observer = connect({.path = daemon.socket()});
    template_options t{.warm = 2};
    t.process.program = k_program;
    observer.add_template("t", t);
    const pid_t program = ::fork();
    if (program == 0) {
        const client c = connect({.path = daemon.socket()});
        for (int i = 0; i < 50; ++i) (void)c.run_call("t", "nothing");
        for (;;) ::pause();
    }
    await_leases(observer);
    REQUIRE(::kill(program, SIGKILL) == 0);
    REQUIRE(::waitpid(program, nullptr, 0) == program);
    const auto give_up = std::chrono::steady_clock::now() + k_patience;
    while (!observer.list().empty()) REQUIRE(std::chrono::steady_clock::now() < give_up);
    CHECK(leased(observer) == 0);
}

TEST_CASE("a forkserver that is killed takes what it had leased along") {
    testing::subreaper own;
    testing::test_daemon daemon;
    const client c = connect({.path = daemon.socket()});
    template_options t{.warm = 2};
    t.process.program = k_program;
    c.add_template("t", t);
    for (int i = 0; i < 2; ++i) REQUIRE(c.run_call("t", "nothing").status.success());
    await_leases(c);
    const std::set<pid_t> pids = leased_pids(c);
    REQUIRE_FALSE(pids.empty());
    daemon.signal(SIGKILL);
    daemon.wait();
    CHECK_THROWS_AS((void)c.stats(), spawn_error);
    CHECK_FALSE(c.try_run_call("t", "nothing").has_value());
    for (const pid_t pid : pids) CHECK(ends(pid));
}
