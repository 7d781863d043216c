// Whose a child is: root gives it away in full, and who is not root is told so.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "ipc/base/process_ref.hpp"
#include "ipc/wire/limits.hpp"
#include "tests/integration/attributes/failing_steps.hpp"

using namespace cleanfork;
using namespace cleanfork::test;

namespace {

constexpr uid_t k_nobody = 65534;
constexpr gid_t k_group = 4242;

failure why(const client& c, const spawn_options& o) {
    auto r = c.try_spawn(o);
    REQUIRE_FALSE(r.has_value());
    return r.error();
}

// The programs of the tests may lie where another user cannot go: he is given
// their descriptors.
struct lent_programs {
    unique_fd daemon = open_program(CLEANFORK_BIN_DIR "/cleanforkd");
    unique_fd inspect = open_program(helper("inspect"));
};

// In as_user(): a forkserver of that user, in a directory he can enter.
client launch_lent(const lent_programs& programs, const std::string& features_off = {}) {
    if (::chdir("/") != 0) throw std::runtime_error("chdir");
    return launch_without(features_off, {.daemon = path_of(programs.daemon)});
}

spawn_options inspecting(const lent_programs& programs) {
    return {.program = programs.inspect.get(), .argv0 = "inspect"};
}

}  // namespace

TEST_CASE("root gives a child another user, group and groups, and keeps nothing back") {
    if (skipped_without_root("changes of user")) return;
    const unique_fd program = open_program(helper("inspect"));
    with_each_variant([&](const client& c) {
        const json seen = inspect(c, {.program = program.get(),
                                      .cwd = "/",
                                      .uid = k_nobody,
                                      .gid = k_group,
                                      .groups = std::vector<gid_t>{7, 100'000}});
        CHECK(seen["uids"] == json({k_nobody, k_nobody, k_nobody}));
        CHECK(seen["gids"] == json({k_group, k_group, k_group}));
        CHECK(seen["groups"] == json({7, 100'000}));
        CHECK(seen["fds"].size() == 3);
        CHECK(inspect(c)["uids"] == json({0, 0, 0}));
    });
}

TEST_CASE("another user's child loses root's supplementary groups unless some are named") {
    if (skipped_without_root("changes of user")) return;
    const gid_t mine[] = {5, 6};
    std::vector<gid_t> before(static_cast<std::size_t>(::getgroups(0, nullptr)));
    ::getgroups(static_cast<int>(before.size()), before.data());
    REQUIRE(::setgroups(2, mine) == 0);
    const unique_fd program = open_program(helper("inspect"));
    for (const std::string& off : variants()) {
        const client c = launch_without(off);
        CHECK(inspect(c)["groups"] == json({5, 6}));
        CHECK(
            inspect(c, {.program = program.get(), .cwd = "/", .uid = k_nobody})["groups"].empty());
        CHECK(inspect(c, {.program = {}, .gid = k_group})["groups"] == json({5, 6}));
        CHECK(inspect(c, {.program = {}, .groups = std::vector<gid_t>{}})["groups"].empty());
        CHECK(inspect(c, {.program = {}, .uid = 0, .groups = std::vector<gid_t>{9}})["groups"] ==
              json({9}));
    }
    REQUIRE(::setgroups(before.size(), before.data()) == 0);
}

TEST_CASE("the program and the directory are opened as the child's user, not as root") {
    if (skipped_without_root("changes of user")) return;
    namespace fs = std::filesystem;
    std::string pattern = (fs::temp_directory_path() / "cleanfork-closed-XXXXXX").string();
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);  // 0700
    fs::copy_file("/bin/true", pattern + "/true");
    const unique_fd directory(::open(pattern.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    with_each_variant([&](const client& c) {
        const spawn_options base{.program = "/bin/true", .cwd = "/", .uid = k_nobody};
        spawn_options o = base;
        o.cwd = pattern;
        CHECK(why(c, o).step == step::chdir);
        CHECK(why(c, o).error_number == EACCES);
        o.cwd = directory.get();
        CHECK(why(c, o).step == step::chdir);
        o = base;
        o.program = pattern + "/true";
        CHECK(why(c, o).step == step::exec);
        CHECK(why(c, o).error_number == EACCES);
        CHECK(c.run(base).status.success());
        o.uid = 0;
        CHECK(c.run(o).status.success());
    });
    fs::remove_all(pattern);
}

TEST_CASE("a parent's death is signalled to another user's child too") {
    if (skipped_without_root("changes of user")) return;
    const unique_fd program = open_program(helper("inspect"));
    with_each_variant([&](const client& c) {
        const json seen = inspect(c, {.program = program.get(),
                                      .cwd = "/",
                                      .uid = k_nobody,
                                      .no_new_privs = true,
                                      .parent_death_signal = SIGTERM});
        CHECK(seen["parent_death_signal"] == SIGTERM);
        CHECK(seen["no_new_privs"] == 1);
    });
}

TEST_CASE("limits and priorities are applied before the privileges for them are given up") {
    if (skipped_without_root("changes of user")) return;
    const unique_fd program = open_program(helper("inspect"));
    with_each_variant([&](const client& c) {
        spawn_options o{.program = program.get(), .cwd = "/", .uid = k_nobody, .gid = k_group};
        o.rlimits = {{RLIMIT_CORE, 0, 0}};
        if (capable(CAP_SYS_NICE)) {
            o.nice = -5;
            o.sched = scheduling{SCHED_FIFO, 1};
        }
        const json seen = inspect(c, o);
        CHECK(seen["uids"] == json({k_nobody, k_nobody, k_nobody}));
        CHECK(seen["rlimits"][RLIMIT_CORE] == json({0, 0}));
        if (!capable(CAP_SYS_NICE)) return;
        CHECK(seen["nice"] == -5);
        CHECK(seen["policy"] == SCHED_FIFO);
    });
}

TEST_CASE("numbers that are no user, and more groups than the kernel has, are refused") {
    with_each_variant([](const client& c) {
        const auto none = static_cast<uid_t>(-1);
        CHECK(why(c, {.program = "/bin/true", .uid = none}).step == step::request);
        CHECK(why(c, {.program = "/bin/true", .gid = none}).step == step::request);
        std::vector<gid_t> many(ipc::k_max_groups);
        for (std::size_t i = 0; i < many.size(); ++i) many[i] = static_cast<gid_t>(i + 1);
        if (::geteuid() == 0)
            CHECK(c.run({.program = "/bin/true", .groups = many}).status.success());
        many.push_back(1);
        CHECK(why(c, {.program = "/bin/true", .groups = many}).step == step::request);
    });
}

TEST_CASE("a forkserver that is not root refuses what only root can do, step by step") {
    if (skipped_without_root("becoming another user first")) return;
    const lent_programs programs;
    const std::vector<failing> all = {
        {"another user", step::uid, EPERM, "1", {.program = "/bin/true", .uid = 1}},
        {"another group", step::gid, EPERM, "1", {.program = "/bin/true", .gid = 1}},
        {"groups",
         step::groups,
         EPERM,
         "",
         {.program = "/bin/true", .groups = std::vector<gid_t>{}}},
        {"less nice", step::nice, EACCES, "-5", {.program = "/bin/true", .nice = -5}},
        {"a real-time policy",
         step::scheduler,
         EPERM,
         "",
         {.program = "/bin/true", .sched = scheduling{SCHED_FIFO, 1}}},
        {"less likely to be killed",
         step::oom_score_adj,
         EACCES,
         "-1",
         {.program = "/bin/true", .oom_score_adj = -1}},
        {"a higher hard limit",
         step::rlimit,
         EPERM,
         "resource 4",
         {.program = "/bin/true", .rlimits = {{RLIMIT_CORE, 0, RLIM_INFINITY}}}},
    };
    for (const std::string& off : variants()) {
        INFO("features forced off: " << off);
        const json outcomes = as_user(k_nobody, [&]() -> json {
            const rlimit no_core{0, 0};
            ::setrlimit(RLIMIT_CORE, &no_core);
            const client c = launch_lent(programs, off);
            json each = json::array();
            for (const failing& f : all) each.push_back(try_failing(c, f));
            return each;
        });
        INFO(outcomes.dump());
        REQUIRE(outcomes.is_array());
        for (std::size_t i = 0; i < all.size(); ++i) check_outcome(all[i], outcomes[i]);
    }
}

TEST_CASE("a forkserver that is not root gives its children all that it may") {
    if (skipped_without_root("becoming another user first")) return;
    const lent_programs programs;
    for (const std::string& off : variants()) {
        INFO("features forced off: " << off);
        const json seen = as_user(k_nobody, [&]() -> json {
            const client c = launch_lent(programs, off);
            spawn_options o = inspecting(programs);
            o.uid = k_nobody;  // his own is no change
            o.gid = k_nobody;
            o.oom_score_adj = 777;
            o.nice = 3;
            o.umask = 0;
            o.group.how = process_group::kind::session;
            o.parent_death_signal = SIGTERM;
            o.rlimits = {{RLIMIT_NOFILE, 10, 20}};
            return inspect(c, o);
        });
        INFO(seen.dump());
        REQUIRE(seen.contains("uids"));
        CHECK(seen["uids"] == json({k_nobody, k_nobody, k_nobody}));
        CHECK(seen["gids"] == json({k_nobody, k_nobody, k_nobody}));
        CHECK(seen["groups"].empty());
        // Its forkserver is not dumpable, which closes /proc/self to both.
        CHECK(seen["oom_score_adj"] == 777);
        CHECK(seen["nice"] == 3);
        CHECK(seen["umask"] == 0);
        CHECK(seen["sid"] == seen["pid"]);
        CHECK(seen["parent_death_signal"] == SIGTERM);
        CHECK(seen["rlimits"][RLIMIT_NOFILE] == json({10, 20}));
        CHECK(seen["dumpable"] == 1);
        CHECK(seen["fds"].size() == 3);
    }
}

TEST_CASE("raising oom_score_adj leaves a forkserver that is not root closed to its user") {
    if (skipped_without_root("becoming another user first")) return;
    const lent_programs programs;
    const json seen = as_user(k_nobody, [&]() -> json {
        const client c = launch_lent(programs);
        spawn_options o = inspecting(programs);
        o.oom_score_adj = 500;
        const json child = inspect(c, o);
        struct stat st {};
        // Of a process that is not dumpable this belongs to root.
        const std::string mem = "/proc/" + std::to_string(c.server().pid) + "/mem";
        return {{"child", child["oom_score_adj"]},
                {"stat", ::stat(mem.c_str(), &st)},
                {"owner", st.st_uid},
                {"open", ::open(mem.c_str(), O_RDONLY | O_CLOEXEC)}};
    });
    INFO(seen.dump());
    CHECK(seen.value("child", 0) == 500);
    CHECK(seen.value("stat", -1) == 0);
    CHECK(seen.value("owner", k_nobody) == 0);
    CHECK(seen.value("open", 0) == -1);
}

TEST_CASE("EAGAIN of clone is what a user over his number of processes gets") {
    if (skipped_without_root("becoming another user first")) return;
    const lent_programs programs;
    // A user nobody else is: the limit counts all his processes.
    constexpr uid_t k_lonely = 60'099;
    const failing over{"over RLIMIT_NPROC",      step::clone, EAGAIN, "",
                       {.program = "/bin/true"}, {},          {},     false};
    const json outcome = as_user(k_lonely, [&]() -> json {
        // This one, the one between it and the forkserver, that, and the sleeper.
        const rlimit four{4, 4};
        ::setrlimit(RLIMIT_NPROC, &four);
        const client c = launch_lent(programs);
        const process sleeper = c.spawn({.program = "/bin/cat", .in = stdio::pipe{}});
        json tried = try_failing(c, over);
        sleeper.terminate();
        sleeper.wait();
        tried["after"] = c.run({.program = "/bin/true"}).status.success();
        return tried;
    });
    check_outcome(over, outcome);
    CHECK(outcome["after"] == true);
}
