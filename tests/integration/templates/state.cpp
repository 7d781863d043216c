// A child of a template is what an executed one is: what `inspect` sees, executed by an
// entry, is what it sees when the forkserver executes it with the same attributes.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <random>
#include <utility>

#include "ipc/wire/limits.hpp"
#include "tests/integration/attributes/inspection.hpp"
#include "tests/integration/lifetimes/lifetimes_support.hpp"

using namespace cleanfork;
using namespace cleanfork::test;

namespace {

namespace fs = std::filesystem;

// A forkserver of the test's own. What its templates do to themselves (a umask, dispositions
// of signals, buffers) must not be seen below.
struct templates {
    templates() : c(launch_without("")) {
        template_options o{.process = {.program = helper("template_program")}};
        c.add_template("forked", o);
        o.warm = 2;
        c.add_template("warm", o);
        c.add_template("executing", {.process = {.program = helper("template_hostile")}});
    }
    client c;
    static constexpr const char* names[] = {"forked", "warm"};
};

json inspect_call(const client& c, const std::string& name, spawn_options o) {
    if (std::holds_alternative<stdio::null>(o.out)) o.out = stdio::pipe{};
    // A call has no program: the entry is told which one to execute.
    std::string program = std::get<std::string>(std::exchange(o.program, {}));
    if (program.empty()) program = helper("inspect");
    const call_result r =
        c.run_call(name, "exec_inspect", {}, {.args = {program}, .attributes = o});
    REQUIRE_MESSAGE(r.status.success(), r.status.to_string() << " " << r.error);
    return json::parse(r.out);
}

// What differs from one process to the next, put as what it must be in terms of the others.
json comparable(json seen, pid_t parent, pid_t server) {
    const pid_t self = seen["pid"];
    const auto role = [&](const char* what) {
        const pid_t p = seen[what];
        seen[what] = p == self ? "itself" : p == parent ? "its parent" : std::to_string(p);
    };
    for (const char* what : {"ppid", "pgid"}) role(what);
    const pid_t session = seen["sid"];
    seen["sid"] = session == self     ? "itself"
                  : session == server ? "the forkserver's"
                                      : std::to_string(session);
    seen.erase("pid");
    seen.erase("argv");
    for (json& fd : seen["fds"]) {
        const std::string link = fd["link"];
        if (!link.starts_with("pipe:")) continue;
        fd["link"] = "pipe";
        fd.erase("inode");
    }
    std::sort(seen["environment"].begin(), seen["environment"].end());
    for (json& variable : seen["environment"])
        if (variable.get<std::string>().starts_with("LISTEN_PID="))
            variable = variable == "LISTEN_PID=" + std::to_string(self) ? "its own" : "another's";
    return seen;
}

pid_t pid_of(const client& c, const std::string& name) {
    const template_info info = c.template_info(name);
    REQUIRE(info.current() != nullptr);
    return info.current()->pid;
}

// Gives what was seen, for more to be asked of it.
std::vector<json> check_same(const templates& t, const char* what, const spawn_options& o) {
    std::vector<json> seen;
    const pid_t server = t.c.server().pid;
    const json executed = comparable(inspect(t.c, o), server, server);
    for (const char* name : templates::names) {
        INFO(what << ", template " << name);
        seen.push_back(inspect_call(t.c, name, o));
        json called = comparable(seen.back(), pid_of(t.c, name), server);
        CHECK(called == executed);
    }
    return seen;
}

struct pseudo_terminal {
    pseudo_terminal() {
        master.reset(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
        REQUIRE(master);
        REQUIRE(::unlockpt(master.get()) == 0);
        slave.reset(::ioctl(master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
        REQUIRE(slave);
    }
    unique_fd master, slave;
};

unique_fd file() {
    unique_fd f(::memfd_create("cleanfork-state", MFD_CLOEXEC));
    REQUIRE(f);
    return f;
}

}  // namespace

TEST_CASE("a call without attributes runs in the plain state of an executed program") {
    const templates t;
    for (int i = 0; i < 4; ++i)  // the warm pool is used up and refilled meanwhile
        for (const json& seen : check_same(t, "plain", {})) {
            CHECK(seen["fds"].size() == 3);
            CHECK(seen["umask"] == 022);
            for (const char* set : {"ignored", "caught", "blocked", "pending"})
                CHECK_MESSAGE(seen["signals"][set].empty(), set);
            CHECK(seen["pgid"] == seen["pid"]);
            CHECK(seen["threads"] == 1);
            CHECK(seen["timers"].empty());
            CHECK_FALSE(variable(seen, "CLEANFORK_TEMPLATE"));
        }
}

TEST_CASE("how a call may use the machine is set as for a program") {
    const templates t;
    check_same(t, "umask", {.program = {}, .umask = 0777});
    check_same(t, "nice", {.program = {}, .nice = 7});
    check_same(t, "affinity", {.program = {}, .cpus = {0}});
    for (const int policy : {SCHED_OTHER, SCHED_BATCH, SCHED_IDLE})
        check_same(t, "policy", {.program = {}, .sched = scheduling{policy}});
    check_same(t, "oom_score_adj", {.program = {}, .oom_score_adj = 700});
    check_same(t, "no_new_privs", {.program = {}, .no_new_privs = true});
    if (capable(CAP_SYS_NICE)) {
        check_same(t, "priority", {.program = {}, .sched = scheduling{SCHED_RR, 3}});
        check_same(t, "less nice", {.program = {}, .nice = -5});
    }
    check_same(t, "nothing of that stays", {});
}

TEST_CASE("each resource limit of a call is set, and no other") {
    const templates t;
    const std::pair<int, rlim_t> limits[] = {{RLIMIT_CPU, 50},         {RLIMIT_FSIZE, 1 << 20},
                                             {RLIMIT_DATA, 512 << 20}, {RLIMIT_STACK, 4 << 20},
                                             {RLIMIT_CORE, 0},         {RLIMIT_RSS, 512 << 20},
                                             {RLIMIT_NPROC, 4000},     {RLIMIT_NOFILE, 100},
                                             {RLIMIT_MEMLOCK, 4096},   {RLIMIT_AS, rlim_t{1} << 33},
                                             {RLIMIT_LOCKS, 10},       {RLIMIT_SIGPENDING, 30},
                                             {RLIMIT_MSGQUEUE, 4096},  {RLIMIT_NICE, 0},
                                             {RLIMIT_RTPRIO, 0},       {RLIMIT_RTTIME, 1'000'000}};
    REQUIRE(std::size(limits) == RLIM_NLIMITS);
    spawn_options all;
    for (const auto& [resource, value] : limits) {
        INFO("resource " << resource);
        all.rlimits.push_back({resource, value, value});
        check_same(t, "one limit", {.program = {}, .rlimits = {all.rlimits.back()}});
    }
    for (const json& seen : check_same(t, "all limits", all))
        for (const auto& [resource, value] : limits)
            CHECK(seen["rlimits"][static_cast<std::size_t>(resource)] == json({value, value}));
}

TEST_CASE("a call runs as the user and groups that it names") {
    if (skipped_without_root("uid and gid")) return;
    const templates t;
    // Where another user reaches it too.
    std::string directory = (fs::temp_directory_path() / "cleanfork-state-XXXXXX").string();
    REQUIRE(::mkdtemp(directory.data()) != nullptr);
    fs::permissions(directory, fs::perms(0755));
    const std::string program = directory + "/inspect";
    fs::copy_file(helper("inspect"), program);
    const auto with = [&](spawn_options o) {
        o.program = program;
        o.cwd = "/";
        return o;
    };
    check_same(t, "gid", with({.program = {}, .gid = 4321}));
    check_same(t, "groups", with({.program = {}, .groups = {{7, 9}}}));
    check_same(t, "no groups", with({.program = {}, .groups = std::vector<gid_t>{}}));
    check_same(t, "uid", with({.program = {}, .uid = 4321}));
    for (const json& seen : check_same(
             t, "all", with({.program = {}, .uid = 4321, .gid = 4322, .groups = {{7, 9}}}))) {
        CHECK(seen["uids"] == json({4321, 4321, 4321}));
        CHECK(seen["gids"] == json({4322, 4322, 4322}));
        CHECK(seen["groups"] == json({7, 9}));
    }
    check_same(t, "nothing of that stays", {});
    fs::remove_all(directory);
}

TEST_CASE("to whom a call belongs is set as for a program") {
    const templates t;
    for (const json& seen :
         check_same(t, "session", {.program = {}, .group = {.how = process_group::kind::session}}))
        CHECK(seen["sid"] == seen["pid"]);
    const process leader = t.c.spawn({.program = "/bin/cat", .in = stdio::pipe{}});
    for (const json& seen : check_same(
             t, "group",
             {.program = {}, .group = {.how = process_group::kind::join, .id = leader.id()}}))
        CHECK(seen["pgid"] == leader.id());
    leader.terminate();
    leader.wait();
    for (const char* name : templates::names) {
        const pseudo_terminal tty;
        const json seen = inspect_call(t.c, name,
                                       {.program = {},
                                        .in = stdio::descriptor{tty.slave.get()},
                                        .group = {.how = process_group::kind::session},
                                        .controlling_terminal = 0});
        CHECK(seen["terminal"] != 0);
        CHECK(seen["fds"]["0"]["link"].get<std::string>().starts_with("/dev/pts/"));
    }
    if (auto cgroup = testing::test_cgroup::create()) {
        const auto seen = check_same(t, "cgroup", {.program = {}, .cgroup = cgroup->descriptor()});
        CHECK(seen[0]["cgroup"] != inspect(t.c)["cgroup"]);
    }
}

TEST_CASE("the signals that are to be ignored are, and no others") {
    const templates t;
    for (const json& seen :
         check_same(t, "ignored_signals",
                    {.program = {}, .ignored_signals = {SIGINT, SIGHUP, SIGCHLD, SIGRTMAX}})) {
        CHECK(seen["signals"]["ignored"] == json({SIGHUP, SIGINT, SIGCHLD, SIGRTMAX}));
        CHECK(seen["signals"]["caught"].empty());
    }
}

TEST_CASE("the signal for its parent's death is for that of the template") {
    const testing::subreaper mine;
    const templates t;
    check_same(t, "parent_death_signal", {.program = {}, .parent_death_signal = SIGUSR2});
    for (const char* name : templates::names) {
        const process dying = t.c.call(
            name, "sleep", {}, {.attributes = {.program = {}, .parent_death_signal = SIGUSR1}});
        const process living = t.c.call(name, "sleep");
        REQUIRE(::kill(pid_of(t.c, name), SIGKILL) == 0);
        CHECK(dying.wait() == exit_status::signaled(SIGUSR1, false));
        living.terminate();
        CHECK(living.wait().is_signaled());
    }
}

TEST_CASE("environment and directory of a call are those of its session, or of the call") {
    const scoped_variable set("CLEANFORK_TEST_BASE", "base value");
    const templates t;
    for (const json& seen : check_same(t, "base", {}))
        CHECK(variable(seen, "CLEANFORK_TEST_BASE") == "base value");
    check_same(t, "delta",
               {.program = {},
                .env = {.unset = {"CLEANFORK_TEST_BASE", "ABSENT"}, .set = {{"ADDED", "\xff"}}}});
    for (const json& seen :
         check_same(t, "exactly", {.program = {}, .env = environment::exactly({{"ONE", "1"}})}))
        CHECK(seen["environment"] == json({"ONE=1"}));
    check_same(t, "nothing", {.program = {}, .env = {.clear = true}});
    for (const json& seen : check_same(t, "path", {.program = {}, .cwd = "/usr"}))
        CHECK(seen["cwd"] == "/usr");
    for (const int how : {O_RDONLY, O_PATH}) {
        const unique_fd fd(::open("/usr", how | O_DIRECTORY | O_CLOEXEC));
        for (const json& seen : check_same(t, "descriptor", {.program = {}, .cwd = fd.get()}))
            CHECK(seen["fds"].size() == 3);
    }
    const std::string below = fs::path(fs::current_path()).filename();
    check_same(t, "relative", {.program = {}, .cwd = "../" + below});
}

TEST_CASE("a call has exactly its map, whatever numbers the template has for itself") {
    const templates t;
    std::vector<unique_fd> files;
    for (std::size_t i = 0; i < ipc::k_max_call_descriptors; ++i) files.push_back(file());
    const auto mapped = [&](int first, int step, std::size_t count) {
        spawn_options o;
        for (std::size_t i = 0; i < count; ++i)
            o.fds.push_back({files[i].get(), first + step * static_cast<int>(i)});
        return o;
    };
    // 3 and on: its control socket, and those that a child receives the sources at.
    for (const json& seen : check_same(t, "low", mapped(3, 1, 8))) CHECK(seen["fds"].size() == 11);
    check_same(t, "reversed", mapped(30, -1, 28));
    check_same(
        t, "one source, many targets",
        {.program = {}, .fds = {{files[0].get(), 3}, {files[0].get(), 4}, {files[0].get(), 90}}});
    const std::size_t most = ipc::k_max_call_descriptors - 1;  // standard output is one
    for (const json& seen : check_same(t, "as many as there may be", mapped(3, 1, most)))
        CHECK(seen["fds"].size() == most + 3);
    check_same(t, "as many, reversed", mapped(70, -1, most));
    check_same(t, "high", mapped(900, 7, most));
    spawn_options all = mapped(4, 1, 20);
    const unique_fd cwd(::open("/usr", O_PATH | O_DIRECTORY | O_CLOEXEC));
    all.cwd = cwd.get();
    all.listen_fds = {{files[40].get(), "forty"}};
    for (const json& seen : check_same(t, "with activation and a directory", all)) {
        CHECK(variable(seen, "LISTEN_FDS") == "1");
        CHECK(variable(seen, "LISTEN_FDNAMES") == "forty");
        CHECK(variable(seen, "LISTEN_PID") == std::to_string(seen["pid"].get<pid_t>()));
        CHECK(seen["cwd"] == "/usr");
    }
}

TEST_CASE("random maps of a call are exact") {
    const templates t;
    std::vector<unique_fd> files;
    for (int i = 0; i < 40; ++i) files.push_back(file());
    const std::uint64_t seed = std::random_device()();
    INFO("seed " << seed);
    std::mt19937_64 random(seed);
    for (int i = 0; i < 40; ++i) {
        std::map<int, int> map;
        for (int n = static_cast<int>(random() % 50); n > 0; --n)
            map[static_cast<int>(3 + random() % 60)] = files[random() % files.size()].get();
        std::vector<std::string> words{helper("check_descriptors"), "0=null", "1=null", "2=null"};
        spawn_options o;
        for (const auto& [target, source] : map) {
            struct stat st {};
            REQUIRE(::fstat(source, &st) == 0);
            words.push_back(std::to_string(target) + "=" + std::to_string(st.st_ino));
            o.fds.push_back({source, target});
        }
        std::shuffle(o.fds.begin(), o.fds.end(), random);
        const call_result r =
            t.c.run_call("executing", "execute", {}, {.args = words, .attributes = o});
        REQUIRE(r.status == exit_status::exited(0));
    }
}

TEST_CASE("all attributes of a call at once are all there") {
    const templates t;
    const unique_fd fd = file();
    check_same(t, "all",
               {.program = {},
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
}
