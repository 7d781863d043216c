// What a program becomes after its forkserver began, its children are: never more.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <thread>

#include "tests/integration/attributes/identity_support.hpp"

using namespace cleanfork;
using namespace cleanfork::test;

namespace {

const std::string k_nobody_ids = "65534\t65534\t65534\t65534";

std::uint64_t set_of(const json& status, const char* key) {
    return std::stoull(status.at(key).get<std::string>(), nullptr, 16);
}
constexpr std::uint64_t bit(int capability) { return std::uint64_t{1} << capability; }

// The three kinds of a start, after `change`.
json each_start(const std::function<void()>& change) {
    return after(
        [&](const client& c) {
            if (const json f = add_template(c); !f.is_null()) throw std::runtime_error(f.dump());
            change();
        },
        [](const client& c) {
            json seen{{"spawn", status_of_spawn(c)}, {"call", status_of_call(c)}};
            const json refused = add_template(c);  // the next generation, as the caller is now
            seen["template"] = refused.is_null() ? status_of_call(c) : refused;
            return seen;
        },
        {});
}

void add_inherited(int capability) {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[2]{};
    must(::syscall(SYS_capget, &header, data) == 0, "capget");
    data[0].inheritable |= 1U << capability;
    must(::syscall(SYS_capset, &header, data) == 0, "capset");
}

// Any filter: this one allows everything.
void filter_system_calls() {
    sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    sock_fprog program{.len = 1, .filter = &allow};
    must(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0, "seccomp");
}

}  // namespace

TEST_CASE("a program that has given up root starts nothing as root") {
    if (skipped_without_root("changes of user")) return;
    const json seen = each_start(&give_up_root);
    for (const auto& [kind, status] : seen.items()) {
        INFO(kind << ' ' << status.dump());
        REQUIRE(status.contains("Uid"));
        CHECK(status["Uid"] == k_nobody_ids);
        CHECK(status["Gid"] == k_nobody_ids);
        CHECK(status["Groups"] == "7 4242");
        CHECK(set_of(status, "CapPrm") == 0);
        CHECK(set_of(status, "CapEff") == 0);
    }
}

TEST_CASE("a program with another effective user starts everything with that") {
    if (skipped_without_root("changes of user")) return;
    const json seen = each_start([] {
        must(::setegid(k_someone) == 0, "setegid");
        must(::seteuid(k_someone) == 0, "seteuid");
    });
    for (const auto& [kind, status] : seen.items()) {
        INFO(kind << ' ' << status.dump());
        REQUIRE(status.contains("Uid"));
        // The saved one is what an exec makes of it.
        CHECK(status["Uid"] == "0\t65534\t65534\t65534");
        CHECK(status["Gid"] == "0\t65534\t65534\t65534");
    }
}

TEST_CASE("it is the thread that asks whose user counts") {
    if (skipped_without_root("changes of user")) return;
    const json seen = after([] {},
                            [](const client& c) {
                                json all{{"before", status_of_spawn(c)}};
                                std::thread([&] {
                                    give_up_root_of_this_thread();
                                    all["thread"] = status_of_spawn(c);
                                }).join();
                                all["main"] = status_of_spawn(c);
                                return all;
                            });
    INFO(seen.dump());
    REQUIRE(seen.contains("main"));
    REQUIRE(seen["thread"].contains("Uid"));
    CHECK(seen["before"]["Uid"] == "0\t0\t0\t0");
    CHECK(seen["thread"]["Uid"] == k_nobody_ids);
    CHECK(seen["thread"]["Groups"] == "");
    CHECK(seen["main"]["Uid"] == "0\t0\t0\t0");
}

TEST_CASE("a program that was another user when it began its forkserver sees no difference") {
    if (skipped_without_root("changes of user")) return;
    const unique_fd daemon = open_program(CLEANFORK_BIN_DIR "/cleanforkd");
    const json seen = as_user(0, [&] {
        give_up_root();
        must(::prctl(PR_SET_DUMPABLE, 1) == 0, "dumpable");  // so that /proc shows the daemon
        must(::chdir("/") == 0, "chdir");
        const client c = launch({.daemon = path_of(daemon)});
        return status_of_spawn(c);
    });
    INFO(seen.dump());
    REQUIRE(seen.contains("Uid"));
    CHECK(seen["Uid"] == k_nobody_ids);
    CHECK(seen["Groups"] == "7 4242");
}

TEST_CASE("no_new_privs is followed") {
    const json seen =
        each_start([] { must(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs"); });
    for (const auto& [kind, status] : seen.items()) {
        INFO(kind << ' ' << status.dump());
        REQUIRE(status.contains("NoNewPrivs"));
        CHECK(status["NoNewPrivs"] == "1");
    }
}

TEST_CASE("a capability that the program can never have again no child has") {
    if (skipped_without_root("capabilities")) return;
    const json seen =
        each_start([] { must(::prctl(PR_CAPBSET_DROP, CAP_NET_RAW, 0, 0, 0) == 0, "capbset"); });
    for (const char* kind : {"spawn", "call", "template"}) {
        INFO(kind << ' ' << seen[kind].dump());
        CHECK((set_of(seen[kind], "CapBnd") & bit(CAP_NET_RAW)) == 0);
        CHECK((set_of(seen[kind], "CapBnd") & bit(CAP_CHOWN)) != 0);
    }
    CHECK((set_of(seen["spawn"], "CapEff") & bit(CAP_NET_RAW)) == 0);
}

TEST_CASE("ambient capabilities of the program are the child's") {
    if (skipped_without_root("capabilities")) return;
    const json seen = each_start([] {
        must(::prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0, "keepcaps");
        give_up_root();
        add_inherited(CAP_NET_BIND_SERVICE);
        must(::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0) == 0,
             "ambient");
    });
    for (const auto& [kind, status] : seen.items()) {
        INFO(kind << ' ' << status.dump());
        REQUIRE(status.contains("CapAmb"));
        CHECK(status["Uid"] == k_nobody_ids);
        CHECK(set_of(status, "CapAmb") == bit(CAP_NET_BIND_SERVICE));
    }
    CHECK(set_of(seen["spawn"], "CapEff") == bit(CAP_NET_BIND_SERVICE));
}

TEST_CASE("what no child can be given is told, with a way out, and nothing runs") {
    if (skipped_without_root("namespaces")) return;
    struct elsewhere {
        std::string object;
        std::function<void()> change;
    };
    const auto leave = [](int what) { return [what] { must(::unshare(what) == 0, "unshare"); }; };
    const std::vector<elsewhere> all{
        {"another root directory", [] { must(::chroot("/usr") == 0, "chroot"); }},
        {"another mount namespace", leave(CLONE_NEWNS)},
        {"another namespace (net)", leave(CLONE_NEWNET)},
        {"another namespace (pid_for_children)", leave(CLONE_NEWPID)},
        {"another namespace (ipc)", leave(CLONE_NEWIPC)},
        {"another namespace (uts)", leave(CLONE_NEWUTS)},
        {"another namespace (cgroup)", leave(CLONE_NEWCGROUP)},
        {"another namespace (user)", leave(CLONE_NEWUSER)},
        {"a filter of seccomp", &filter_system_calls}};
    for (const elsewhere& e : all) {
        CAPTURE(e.object);
        const json seen = each_start(e.change);
        for (const auto& [kind, f] : seen.items()) {
            INFO(kind << ' ' << f.dump());
            REQUIRE(f.contains("step"));
            CHECK(f["step"] == "identity");
            CHECK(f["errno"] == EPERM);
            CHECK(f["object"] == e.object);
            CHECK(f["message"].get<std::string>().find("launch()") != std::string::npos);
        }
    }
}

TEST_CASE("a second filter of seccomp is seen as well") {
    const json seen = as_user(0, [] {
        must(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs");
        filter_system_calls();
        const client c = launch();
        json all{{"with both", status_of_spawn(c)}};
        filter_system_calls();
        all["with one more"] = status_of_spawn(c);
        return all;
    });
    CHECK(seen["with both"]["Seccomp_filters"] == "1");
    CHECK(seen["with one more"]["object"] == "one more filter of seccomp");
}

TEST_CASE("how the program is scheduled and limited its children are") {
    if (skipped_without_root("a lower niceness")) return;
    cpu_set_t first;
    CPU_ZERO(&first);
    cpu_set_t mine;
    REQUIRE(::sched_getaffinity(0, sizeof mine, &mine) == 0);
    int cpu = 0;
    while (!CPU_ISSET(cpu, &mine)) ++cpu;
    CPU_SET(cpu, &first);
    const json seen = after(
        [&] {
            const rlimit files{77, 88};
            const sched_param none{};
            must(::setrlimit(RLIMIT_NOFILE, &files) == 0, "setrlimit");
            must(::sched_setscheduler(0, SCHED_BATCH, &none) == 0, "sched_setscheduler");
            must(::setpriority(PRIO_PROCESS, 0, -3) == 0, "setpriority");
            must(::sched_setaffinity(0, sizeof first, &first) == 0, "sched_setaffinity");
            std::ofstream("/proc/self/oom_score_adj") << 123;
        },
        [](const client& c) {
            spawn_options o{.program = "/bin/sh",
                            .args = {"-c",
                                     "cut -d' ' -f19,41 /proc/self/stat; ulimit -Sn; ulimit -Hn; "
                                     "cat /proc/self/oom_score_adj; grep Cpus_allowed_list "
                                     "/proc/self/status"},
                            .out = stdio::pipe{}};
            json all{{"followed", c.run(o).out}};
            o.nice = 5;
            o.rlimits = {{RLIMIT_NOFILE, 66, 80}};
            all["asked"] = c.run(o).out;
            o.identity = identity::of_forkserver;
            o.rlimits.clear();
            o.nice.reset();
            all["forkserver"] = c.run(o).out;
            return all;
        });
    const std::string processor = "123\nCpus_allowed_list:\t" + std::to_string(cpu) + "\n";
    CHECK(seen["followed"] == "-3 3\n77\n88\n" + processor);
    CHECK(seen["asked"] == "5 3\n66\n80\n" + processor);
    CHECK(seen["forkserver"].get<std::string>().starts_with("0 0\n"));
}

TEST_CASE("what is asked for is done with the rights of the program, not of its forkserver") {
    if (skipped_without_root("changes of user")) return;
    const json seen = after(&give_up_root, [](const client& c) {
        return json{{"root", status_of_spawn(c, {.uid = 0})},
                    {"nice", status_of_spawn(c, {.nice = -5})},
                    {"group", status_of_spawn(c, {.groups = std::vector<gid_t>{0}})},
                    {"himself", status_of_spawn(c, {.nice = 5, .uid = k_someone})}};
    });
    CHECK(seen["root"]["step"] == "uid");
    CHECK(seen["root"]["errno"] == EPERM);
    CHECK(seen["nice"]["step"] == "nice");
    CHECK(seen["group"]["step"] == "groups");
    INFO(seen["himself"].dump());
    CHECK(seen["himself"]["Uid"] == k_nobody_ids);
}

TEST_CASE("the forkserver lends its rights to who has given up his own only if told before") {
    if (skipped_without_root("changes of user")) return;
    const auto as_root = [](const client& c) {
        json all{{"spawn", status_of_spawn(c, {.identity = identity::of_forkserver})},
                 {"plain", status_of_spawn(c)}};
        call_options o;
        o.attributes.identity = identity::of_forkserver;
        all["call"] = status_of_call(c, o);
        return all;
    };
    const auto drop = [](const client& c) {
        if (const json f = add_template(c); !f.is_null()) throw std::runtime_error(f.dump());
        give_up_root();
    };
    const json own = after(drop, as_root);
    CHECK(own["spawn"]["step"] == "identity");
    CHECK(own["spawn"]["errno"] == EPERM);
    CHECK(own["call"]["step"] == "identity");
    CHECK(own["plain"]["Uid"] == k_nobody_ids);

    const json lent = after(drop, as_root, {.lends_rights = true});
    INFO(lent.dump());
    CHECK(lent["spawn"]["Uid"] == "0\t0\t0\t0");
    CHECK(lent["call"]["Uid"] == "0\t0\t0\t0");
    CHECK(lent["plain"]["Uid"] == k_nobody_ids);
}

TEST_CASE("capabilities that are asked for are kept by another user's child") {
    if (skipped_without_root("capabilities")) return;
    const client c = launch();
    const json seen = status_of_spawn(c, {.uid = k_someone,
                                          .gid = k_someone,
                                          .ambient_caps = bit(CAP_NET_RAW) | bit(CAP_KILL),
                                          .bounding_caps = bit(CAP_NET_RAW) | bit(CAP_KILL)});
    INFO(seen.dump());
    CHECK(seen["Uid"] == k_nobody_ids);
    for (const char* set : {"CapAmb", "CapInh", "CapPrm", "CapEff", "CapBnd"})
        CHECK(set_of(seen, set) == (bit(CAP_NET_RAW) | bit(CAP_KILL)));
    const json root = status_of_spawn(c, {.bounding_caps = bit(CAP_CHOWN)});
    CHECK(set_of(root, "CapEff") == bit(CAP_CHOWN));
    const json files = status_of_spawn(c, {.inheritable_caps = bit(CAP_CHOWN)});
    CHECK(set_of(files, "CapInh") == bit(CAP_CHOWN));

    const json refused = as_user(k_someone, [] {
        must(::chdir("/") == 0, "chdir");
        const client other = launch();
        return status_of_spawn(other, {.ambient_caps = bit(CAP_NET_RAW)});
    });
    INFO(refused.dump());
    CHECK((refused.contains("error") || refused["step"] == "capabilities"));
}
