// Every step of a child fails here: by its name, its errno and its object, and
// the forkserver is afterwards as it was before.
#include "tests/integration/attributes/failing_steps.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "ipc/wire/limits.hpp"
#include "tests/integration/lifetimes/lifetimes_support.hpp"

using namespace cleanfork;
using namespace cleanfork::test;

namespace {

namespace fs = std::filesystem;

constexpr const char* k_true = "/bin/true";
constexpr int k_no_group = 1 << 22;  // above every pid

// 64 files that take the numbers at which the forkserver receives them, reversed.
struct colliding_map {
    colliding_map() {
        for (std::size_t i = 0; i < ipc::k_max_descriptors; ++i) {
            files.emplace_back(::memfd_create("cleanfork-collide", MFD_CLOEXEC));
            REQUIRE(files.back());
        }
        for (std::size_t i = 0; i < files.size(); ++i)
            map.push_back({files[i].get(), highest - static_cast<int>(i)});
    }
    static constexpr int highest = 70;
    std::vector<unique_fd> files;
    std::vector<fd_mapping> map;
};

// Programs that cannot be run, each for its own reason.
class bad_programs {
public:
    bad_programs() {
        std::string pattern = (fs::temp_directory_path() / "cleanfork-programs-XXXXXX").string();
        REQUIRE(::mkdtemp(pattern.data()) != nullptr);
        directory_ = pattern;
        write("not-executable", "#!/bin/sh\n", 0644);
        write("not-a-program", "neither ELF nor a script\n", 0755);
        write("without-interpreter", "#!/no/such/interpreter\n", 0755);
        fs::create_symlink("loop", directory_ / "loop");
        fs::copy_file("/bin/true", directory_ / "busy");
        busy_.reset(::open(path("busy").c_str(), O_WRONLY | O_CLOEXEC));
        REQUIRE(busy_);
        script_ = open_program(path("without-interpreter"));
    }
    bad_programs(const bad_programs&) = delete;
    bad_programs& operator=(const bad_programs&) = delete;
    ~bad_programs() {
        std::error_code ignored;
        fs::remove_all(directory_, ignored);
    }
    [[nodiscard]] std::string path(const char* name) const { return directory_ / name; }
    [[nodiscard]] std::string directory() const { return directory_; }
    [[nodiscard]] int script() const { return script_.get(); }

private:
    void write(const char* name, const char* text, mode_t mode) const {
        std::ofstream(path(name)) << text;
        ::chmod(path(name).c_str(), mode);
    }
    fs::path directory_;
    unique_fd busy_, script_;
};

std::uint64_t clone_flags(bool unshares) {
#ifdef __SANITIZE_ADDRESS__  // see launcher::shares_memory()
    constexpr std::uint64_t k_memory = 0;
#else
    constexpr std::uint64_t k_memory = CLONE_VM;
#endif
    return k_memory | CLONE_PIDFD | CLONE_CHILD_SETTID | SIGCHLD |
           (unshares ? static_cast<std::uint64_t>(CLONE_FILES) : 0);
}

// The steps that fail without any help.
std::vector<failing> natural_failures() {
    const process_group session{.how = process_group::kind::session};
    const auto join = [](pid_t id) {
        return process_group{.how = process_group::kind::join, .id = id};
    };
    const rlim_t too_many = rlim_t{1} << 40;  // above fs.nr_open, even for root
    return {
        {"a cgroup that is not there",
         step::cgroup,
         ENOENT,
         "/no/such/cgroup",
         {.program = k_true, .cgroup = "/no/such/cgroup"}},
        {"a group that is not there",
         step::process_group,
         EPERM,
         std::to_string(k_no_group),
         {.program = k_true, .group = join(k_no_group)}},
        {"a group of another session",
         step::process_group,
         EPERM,
         std::to_string(::getpgrp()),
         {.program = k_true, .group = join(::getpgrp())}},
        {"a terminal that is none",
         step::controlling_terminal,
         ENOTTY,
         "descriptor 0",
         {.program = k_true, .group = session, .controlling_terminal = 0}},
        {"a priority that the policy lacks",
         step::scheduler,
         EINVAL,
         "",
         {.program = k_true, .sched = scheduling{SCHED_OTHER, 5}}},
        {"processors that are not there",
         step::affinity,
         EINVAL,
         "",
         {.program = k_true, .cpus = {static_cast<unsigned>(ipc::k_max_cpus) - 1}}},
        {"a limit that not even root may have",
         step::rlimit,
         EPERM,
         "resource 7",
         {.program = k_true, .rlimits = {{RLIMIT_CORE, 0, 0}, {RLIMIT_NOFILE, 10, too_many}}}},
        {"a directory that is not there",
         step::chdir,
         ENOENT,
         "/no/such/directory",
         {.program = k_true, .cwd = "/no/such/directory"}},
        {"a directory that is none",
         step::chdir,
         ENOTDIR,
         "/dev/null",
         {.program = k_true, .cwd = "/dev/null"}},
        {"an empty directory name", step::chdir, ENOENT, "", {.program = k_true, .cwd = ""}},
        {"a program that is not there",
         step::exec,
         ENOENT,
         "/no/such/program",
         {.program = "/no/such/program"}},
        {"a name that is nowhere in PATH",
         step::exec,
         ENOENT,
         "no-such-program-anywhere",
         {.program = "no-such-program-anywhere"}},
        {"an empty name", step::exec, ENOENT, "", {.program = ""}},
        {"a path through a file", step::exec, ENOTDIR, "/dev/null/x", {.program = "/dev/null/x"}},
        {"a directory as the program", step::exec, EACCES, "/usr", {.program = "/usr"}},
    };
}

std::vector<failing> program_failures(const bad_programs& p) {
    const auto exec = [&](const char* what, int e, const char* name) {
        return failing{what, step::exec, e, p.path(name), {.program = p.path(name)}};
    };
    return {
        exec("a program without the mode for it", EACCES, "not-executable"),
        exec("a file that is no program", ENOEXEC, "not-a-program"),
        exec("a script without its interpreter", ENOENT, "without-interpreter"),
        exec("a loop of links", ELOOP, "loop"),
        exec("a program that is being written", ETXTBSY, "busy"),
        {"a script by descriptor",
         step::exec,
         ENOENT,
         "descriptor of the program",
         {.program = p.script()}},
        {"a program found but not permitted",
         step::exec,
         EACCES,
         "not-executable",
         {.program = "not-executable",
          .env = {.set = {{"PATH", p.directory() + ":/no/such/directory"}}}}},
    };
}

// The steps that only a system call made to fail can show.
std::vector<failing> denied_failures(const colliding_map& m) {
    std::vector<failing> all = denied_attributes(k_true);
    all.insert(
        all.end(),
        {
            {"no number free above the targets",
             step::descriptors,
             EMFILE,
             {},
             {.program = k_true, .fds = m.map},
             {rule("fcntl" + argument(1, F_DUPFD_CLOEXEC) + argument(2, colliding_map::highest + 1),
                   EMFILE)}},
            {"a kernel without execveat",
             step::exec,
             ENOSYS,
             "descriptor of the program",
             {.program = 0},
             {rule("execveat", ENOSYS)}},
        });
    return all;
}

std::vector<failing> clone_failures(bool unshares) {
    const std::string off = unshares ? "" : "close_range_unshare";
    const spawn_options plain{.program = k_true};
    // The probe at the start closes nothing: its range begins where it ends.
    const std::string close = unshares ? "close_range:arg0!=4294967295" + argument(2, 1U << 1)
                                       : "close_range" + argument(2, 1U << 2);
    std::vector<failing> all;
    for (const int e : {EAGAIN, ENOMEM})
        all.push_back({"no more processes",
                       step::clone,
                       e,
                       "",
                       plain,
                       {rule("clone" + argument(0, clone_flags(unshares)), e)},
                       off,
                       false});
    all.push_back({"descriptors that cannot be closed",
                   step::close_descriptors,
                   ENOMEM,
                   "",
                   plain,
                   {rule(close, ENOMEM)},
                   off,
                   false});
    return all;
}

}  // namespace

TEST_CASE("steps that fail of themselves are named, and leave nothing behind") {
    const bad_programs programs;
    std::vector<failing> all = natural_failures();
    for (failing& f : program_failures(programs)) all.push_back(f);
    for (const std::string& off : variants()) {
        INFO("features forced off: " << off);
        const client c = launch_without(off);
        for (const failing& f : all) check_outcome(f, try_failing(c, f));
    }
}

TEST_CASE("steps that hardly ever fail are named too when their system call does") {
    const colliding_map map;
    const unique_fd program = open_program(k_true);
    for (failing& f : denied_failures(map)) {
        if (std::holds_alternative<int>(f.options.program)) f.options.program = program.get();
        for (const char* off : {"", "close_range_unshare"}) {
            f.features_off = off;
            check_failing(f);
        }
    }
    for (const bool unshares : {true, false})
        for (const failing& f : clone_failures(unshares)) check_failing(f);
}

TEST_CASE("no step of a child is left without a failure of its own") {
    std::set<step> seen;
    const colliding_map map;
    const bad_programs programs;
    for (const auto& list : {natural_failures(), program_failures(programs), denied_failures(map),
                             clone_failures(true)})
        for (const failing& f : list) seen.insert(f.at);
    for (std::uint32_t n = 0; n < 64; ++n) {
        const auto s = static_cast<step>(n);
        if (!is_child_step(s) || to_string(s) == "unknown") continue;
        // credentials.cpp: an account that may not lower it.
        if (s == step::oom_score_adj) continue;
        CHECK_MESSAGE(seen.contains(s), to_string(s));
    }
}

TEST_CASE("arguments that are too large together fail at exec, as E2BIG") {
    const std::string large(100'000, 'x');
    const client c = launch_without("");
    failing f{"too much for exec", step::exec, E2BIG, k_true, {.program = k_true}};
    for (int i = 0; i < 100; ++i) f.options.args.push_back(large);
    check_outcome(f, try_failing(c, f));
}

TEST_CASE("without close_range a child still gets nothing that it was not given") {
    // An old kernel says ENOSYS, the filter of a container engine EPERM.
    for (const int missing : {ENOSYS, EPERM}) {
        CAPTURE(missing);
        const client c = launch_denying({"close_range:arg2=4=" + std::to_string(missing)},
                                        "close_range_unshare");
        const json seen = inspect(c);
        CHECK(seen["fds"].size() == 3);
    }
}

TEST_CASE("a child that cannot be watched is not left running") {
    rlimit limit{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
    // Its pidfd comes after the reserved numbers, a socket for each process that begins at once
    // (one on each processor, four at most), six more of the forkserver's own and the session's.
    const std::uint64_t at_once =
        std::clamp<std::uint64_t>(std::thread::hardware_concurrency(), 1, 4);
    const std::uint64_t pidfd = std::min<rlim_t>(64, limit.rlim_max / 4) + at_once + 6;
    check_failing({"no watch",
                   step::prepare,
                   ENOSPC,
                   "pidfd",
                   {.program = "/bin/cat"},
                   {rule("epoll_ctl" + argument(1, 1) + argument(2, pidfd), ENOSPC)},
                   {},
                   false});
}

TEST_CASE("a cgroup whose descriptor cannot be kept fails before the process exists") {
    const auto cgroup = testing::test_cgroup::create();
    if (!cgroup) return;
    check_failing({"no copy",
                   step::prepare,
                   EMFILE,
                   "cgroup",
                   {.program = k_true, .cgroup = cgroup->descriptor()},
                   {rule("fcntl" + argument(1, F_DUPFD_CLOEXEC) + argument(2, 3), EMFILE)}});
}

TEST_CASE("a directory that is no cgroup is refused, before anything in it is opened") {
    const unique_fd directory(::open("/usr", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    for (const std::string& off : variants()) {
        const int e = EBADF;
        check_failing(
            {"by path", step::cgroup, e, "/usr", {.program = k_true, .cgroup = "/usr"}, {}, off});
        check_failing({"by descriptor",
                       step::cgroup,
                       e,
                       "descriptor of the cgroup",
                       {.program = k_true, .cgroup = directory.get()},
                       {},
                       off});
    }
}
