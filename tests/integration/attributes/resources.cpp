// What a child may use, and how it is scheduled.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <map>

#include "ipc/wire/limits.hpp"
#include "tests/integration/attributes/inspection.hpp"

using namespace cleanfork;
using namespace cleanfork::test;

namespace {

json limit_of(int resource) {
    rlimit l{};
    REQUIRE(::getrlimit(static_cast<__rlimit_resource_t>(resource), &l) == 0);
    return {l.rlim_cur, l.rlim_max};
}

failure why(const client& c, const spawn_options& o) {
    auto r = c.try_spawn(o);
    REQUIRE_FALSE(r.has_value());
    return r.error();
}

}  // namespace

TEST_CASE("without a word about it a child has the plain state") {
    with_each_variant([](const client& c) {
        const json seen = inspect(c);
        CHECK(seen["umask"] == 022);
        CHECK(seen["nice"] == 0);
        CHECK(seen["policy"] == SCHED_OTHER);
        CHECK(seen["priority"] == 0);
        CHECK(seen["no_new_privs"] == 0);
        CHECK(seen["parent_death_signal"] == 0);
        CHECK(seen["dumpable"] == 1);
        CHECK(seen["threads"] == 1);
        CHECK(seen["ppid"] == c.server().pid);
        CHECK(seen["timers"].empty());
        for (const char* set : {"ignored", "caught", "blocked", "pending"})
            CHECK_MESSAGE(seen["signals"][set].empty(), set);
    });
}

TEST_CASE(
    "every resource limit is the caller's unless asked for, the raised one of descriptors too") {
    json own = json::array();
    for (int r = 0; r < RLIM_NLIMITS; ++r) own.push_back(limit_of(r));
    with_each_variant([&](const client& c) { CHECK(inspect(c)["rlimits"] == own); });
}

TEST_CASE("each resource limit is set, and no other") {
    // Values a process still starts with, each below the hard limit of most systems.
    const std::map<int, std::pair<rlim_t, rlim_t>> wanted = {
        {RLIMIT_CPU, {50, 100}},
        {RLIMIT_FSIZE, {1 << 20, 2 << 20}},
        {RLIMIT_DATA, {512 << 20, 600 << 20}},
        {RLIMIT_STACK, {4 << 20, 8 << 20}},
        {RLIMIT_CORE, {0, 0}},
        {RLIMIT_RSS, {512 << 20, 512 << 20}},
        {RLIMIT_NPROC, {1000, 1200}},
        {RLIMIT_NOFILE, {100, 200}},
        {RLIMIT_MEMLOCK, {4096, 8192}},
        {RLIMIT_AS, {rlim_t{1} << 32, rlim_t{1} << 33}},
        {RLIMIT_LOCKS, {10, 20}},
        {RLIMIT_SIGPENDING, {30, 40}},
        {RLIMIT_MSGQUEUE, {4096, 8192}},
        {RLIMIT_NICE, {0, 0}},
        {RLIMIT_RTPRIO, {0, 0}},
        {RLIMIT_RTTIME, {1'000'000, 2'000'000}},
    };
    REQUIRE(wanted.size() == RLIM_NLIMITS);
    with_each_variant([&](const client& c) {
        const json usual = inspect(c)["rlimits"];
        spawn_options all;
        for (const auto& [resource, value] : wanted) {
            INFO("resource " << resource);
            const rlimit_option one{resource, value.first, value.second};
            all.rlimits.push_back(one);
            json expected = usual;
            expected[static_cast<std::size_t>(resource)] = {value.first, value.second};
            CHECK(inspect(c, {.program = {}, .rlimits = {one}})["rlimits"] == expected);
        }
        const json seen = inspect(c, all)["rlimits"];
        for (const auto& [resource, value] : wanted)
            CHECK(seen[static_cast<std::size_t>(resource)] == json({value.first, value.second}));
    });
}

TEST_CASE("limits without sense are refused, and infinity is a number") {
    with_each_variant([](const client& c) {
        const auto limited = [](std::vector<rlimit_option> l) {
            return spawn_options{.program = "/bin/true", .rlimits = std::move(l)};
        };
        CHECK(why(c, limited({{RLIMIT_CORE, 2, 1}})).step == step::request);
        CHECK(why(c, limited({{RLIM_NLIMITS, 1, 1}})).step == step::request);
        CHECK(why(c, limited({{-1, 1, 1}})).step == step::request);
        CHECK(why(c, limited({{RLIMIT_CORE, 1, 1}, {RLIMIT_CORE, 0, 0}})).step == step::request);
        if (limit_of(RLIMIT_CPU)[1] == RLIM_INFINITY)
            CHECK(c.run(limited({{RLIMIT_CPU, RLIM_INFINITY, RLIM_INFINITY}})).status.success());
    });
}

TEST_CASE("a limit is at work: a child ends by SIGXFSZ when its file grows too large") {
    const unique_fd file(::memfd_create("cleanfork-test", MFD_CLOEXEC));
    with_each_variant([&](const client& c) {
        const run_result r = c.run({.program = "/usr/bin/head",
                                    .args = {"-c", "100000", "/dev/zero"},
                                    .out = stdio::descriptor{file.get()},
                                    .rlimits = {{RLIMIT_CORE, 0, 0}, {RLIMIT_FSIZE, 8192, 8192}}});
        CHECK(r.status == exit_status::signaled(SIGXFSZ, false));
    });
    struct stat st {};
    REQUIRE(::fstat(file.get(), &st) == 0);
    CHECK(st.st_size == 8192);
}

TEST_CASE("umask is what is asked for, from none to all") {
    with_each_variant([](const client& c) {
        for (const mode_t mask : {0U, 022U, 027U, 0777U})
            CHECK(inspect(c, {.program = {}, .umask = mask})["umask"] == mask);
        CHECK(why(c, {.program = "/bin/true", .umask = 01000}).step == step::request);
    });
}

TEST_CASE("a child can be nicer, and with the capability less nice") {
    with_each_variant([](const client& c) {
        CHECK(inspect(c, {.program = {}, .nice = 7})["nice"] == 7);
        CHECK(inspect(c, {.program = {}, .nice = 19})["nice"] == 19);
        if (capable(CAP_SYS_NICE)) CHECK(inspect(c, {.program = {}, .nice = -20})["nice"] == -20);
        CHECK(why(c, {.program = "/bin/true", .nice = 20}).step == step::request);
        CHECK(why(c, {.program = "/bin/true", .nice = -21}).step == step::request);
        CHECK(inspect(c)["nice"] == 0);  // the forkserver itself is as before
    });
}

TEST_CASE("each scheduling policy is set, with its priority") {
    with_each_variant([](const client& c) {
        for (const int policy : {SCHED_OTHER, SCHED_BATCH, SCHED_IDLE}) {
            const json seen = inspect(c, {.program = {}, .sched = scheduling{policy}});
            CHECK(seen["policy"] == policy);
            CHECK(seen["priority"] == 0);
        }
        for (const int policy : {SCHED_FIFO, SCHED_RR}) {
            if (!capable(CAP_SYS_NICE)) break;
            const json seen = inspect(c, {.program = {}, .sched = scheduling{policy, 3}});
            CHECK(seen["policy"] == policy);
            CHECK(seen["priority"] == 3);
        }
        CHECK(why(c, {.program = "/bin/true", .sched = scheduling{99}}).step == step::request);
        CHECK(why(c, {.program = "/bin/true", .sched = scheduling{SCHED_RR, 100}}).step ==
              step::request);
        CHECK(inspect(c)["policy"] == SCHED_OTHER);
    });
}

TEST_CASE("a child is bound to the processors that are asked for") {
    cpu_set_t usable;
    REQUIRE(::sched_getaffinity(0, sizeof usable, &usable) == 0);
    json own = json::array();
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu)
        if (CPU_ISSET(cpu, &usable)) own.push_back(cpu);
    with_each_variant([&](const client& c) {
        for (const unsigned cpu : own)
            CHECK(inspect(c, {.program = {}, .cpus = {cpu}})["cpus"] == json({cpu}));
        // The kernel leaves out what it does not have, as long as one is left.
        const unsigned last = static_cast<unsigned>(ipc::k_max_cpus) - 1;
        CHECK(inspect(c, {.program = {}, .cpus = {own[0], last}})["cpus"] == json({own[0]}));
        CHECK(why(c, {.program = "/bin/true", .cpus = {own[0], last + 1}}).step == step::request);
        CHECK(inspect(c)["cpus"] == own);
    });
}

TEST_CASE("oom_score_adj is raised, and with the capability lowered") {
    with_each_variant([](const client& c) {
        const int usual = inspect(c)["oom_score_adj"];
        CHECK(inspect(c, {.program = {}, .oom_score_adj = 1000})["oom_score_adj"] == 1000);
        if (capable(CAP_SYS_RESOURCE)) {
            CHECK(inspect(c, {.program = {}, .oom_score_adj = -1000})["oom_score_adj"] == -1000);
            CHECK(inspect(c, {.program = {}, .oom_score_adj = 0})["oom_score_adj"] == 0);
        }
        CHECK(why(c, {.program = "/bin/true", .oom_score_adj = 1001}).step == step::request);
        CHECK(why(c, {.program = "/bin/true", .oom_score_adj = -1001}).step == step::request);
        // The child shares memory with the forkserver until it runs the program.
        CHECK(inspect(c)["oom_score_adj"] == usual);
        std::ifstream file("/proc/" + std::to_string(c.server().pid) + "/oom_score_adj");
        int of_server = 0;
        file >> of_server;
        CHECK(of_server == usual);
    });
}

TEST_CASE("no_new_privs is for the child alone, and for ever") {
    with_each_variant([](const client& c) {
        CHECK(inspect(c, {.program = {}, .no_new_privs = true})["no_new_privs"] == 1);
        CHECK(inspect(c)["no_new_privs"] == 0);
    });
}

TEST_CASE("many attributes at once are all there") {
    const unique_fd fd(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
    with_each_variant([&](const client& c) {
        const json seen = inspect(c, {.program = {},
                                      .argv0 = "all",
                                      .fds = {{fd.get(), 500}},
                                      .env = environment::exactly({{"A", "1"}}),
                                      .cwd = "/",
                                      .umask = 077,
                                      .group = {.how = process_group::kind::session},
                                      .rlimits = {{RLIMIT_NOFILE, 20, 30}},
                                      .nice = 5,
                                      .sched = scheduling{SCHED_BATCH},
                                      .oom_score_adj = 500,
                                      .no_new_privs = true,
                                      .parent_death_signal = SIGUSR1});
        CHECK(seen["argv"] == json({"all"}));
        CHECK(seen["fds"].size() == 4);
        CHECK(seen["fds"]["500"]["link"] == "/dev/zero");
        CHECK(seen["environment"] == json({"A=1"}));
        CHECK(seen["cwd"] == "/");
        CHECK(seen["umask"] == 077);
        CHECK(seen["sid"] == seen["pid"]);
        CHECK(seen["rlimits"][RLIMIT_NOFILE] == json({20, 30}));
        CHECK(seen["nice"] == 5);
        CHECK(seen["policy"] == SCHED_BATCH);
        CHECK(seen["oom_score_adj"] == 500);
        CHECK(seen["no_new_privs"] == 1);
        CHECK(seen["parent_death_signal"] == SIGUSR1);
    });
}
