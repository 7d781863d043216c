// Children in a cgroup v2: there from their first instruction, with every other
// attribute as elsewhere. Needs root, and a kernel that mounts cgroup2.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <memory>

#include "ipc/base/sys.hpp"
#include "tests/helpers/patience.hpp"
#include "tests/integration/attributes/failing_steps.hpp"

using namespace cleanfork;
using namespace cleanfork::test;

namespace {

namespace fs = std::filesystem;

// A mount namespace of this test's own, left again at the end.
class private_mounts {
public:
    private_mounts()
        : before_(::open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC)),
          cwd_(::open(".", O_PATH | O_DIRECTORY | O_CLOEXEC)) {
        entered_ = before_ && cwd_ && ::unshare(CLONE_NEWNS) == 0 &&
                   ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
    }
    private_mounts(const private_mounts&) = delete;
    private_mounts& operator=(const private_mounts&) = delete;
    ~private_mounts() {
        ::setns(before_.get(), CLONE_NEWNS);
        [[maybe_unused]] const int r = ::fchdir(cwd_.get());  // setns() went to the root
    }
    [[nodiscard]] bool entered() const { return entered_; }

private:
    unique_fd before_, cwd_;
    bool entered_ = false;
};

// cgroup2 mounted, and one cgroup in it for the test; both gone at the end.
class mounted_cgroup {
public:
    // Null, with the reason printed, where that cannot be.
    static std::unique_ptr<mounted_cgroup> create() {
        if (skipped_without_root("cgroup v2 mounted in a mount namespace")) return nullptr;
        std::unique_ptr<mounted_cgroup> c(new mounted_cgroup);
        if (c->usable_) return c;
        MESSAGE("skipped: cgroup2 cannot be mounted, or has no place for a cgroup, here");
        return nullptr;
    }
    mounted_cgroup(const mounted_cgroup&) = delete;
    mounted_cgroup& operator=(const mounted_cgroup&) = delete;
    ~mounted_cgroup() {
        if (usable_) {
            std::ofstream(path() / "cgroup.kill") << "1";
            if (empties()) remove(path());
        }
        ::umount2(mount_.c_str(), MNT_DETACH);
        ::rmdir(mount_.c_str());
    }

    [[nodiscard]] fs::path path() const { return mount_ / name_; }
    // What /proc/self/cgroup says of a process in it.
    [[nodiscard]] std::string name() const { return "/" + name_; }
    [[nodiscard]] fs::path make_below(const char* name) const {
        fs::create_directory(path() / name);
        return path() / name;
    }

    // Waits until nobody is in it or below; the kernel tells changes of the file.
    [[nodiscard]] bool empties() const {
        const unique_fd events(::open((path() / "cgroup.events").c_str(), O_RDONLY | O_CLOEXEC));
        for (;;) {
            char text[256] = {};
            if (::pread(events.get(), text, sizeof text - 1, 0) <= 0) return false;
            if (std::string_view(text).find("populated 0") != std::string_view::npos) return true;
            pollfd p{events.get(), POLLPRI, 0};
            if (::poll(&p, 1, k_patience_ms) != 1) return false;
        }
    }

private:
    mounted_cgroup() : name_("cleanfork-test-" + std::to_string(::getpid())) {
        std::string pattern = (fs::temp_directory_path() / "cleanfork-cgroup-XXXXXX").string();
        REQUIRE(::mkdtemp(pattern.data()) != nullptr);
        mount_ = pattern;
        usable_ = mounts_.entered() &&
                  ::mount("none", mount_.c_str(), "cgroup2", MS_NOSUID | MS_NOEXEC, nullptr) == 0 &&
                  ::mkdir(path().c_str(), 0755) == 0;
    }

    static void remove(const fs::path& directory) {
        std::error_code ignored;
        for (const auto& entry : fs::directory_iterator(directory, ignored))
            if (entry.is_directory(ignored)) remove(entry.path());
        ::rmdir(directory.c_str());
    }

    private_mounts mounts_;
    std::string name_;
    fs::path mount_;
    bool usable_ = false;
};

unique_fd open_directory(const fs::path& path) {
    unique_fd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    REQUIRE(fd);
    return fd;
}

}  // namespace

TEST_CASE("a child is in its cgroup, given by path or by descriptor") {
    const auto group = mounted_cgroup::create();
    if (!group) return;
    const fs::path below = group->make_below("below");
    const unique_fd fd = open_directory(below);
    for (const std::string& off : variants()) {
        INFO("features forced off: " << off);
        const client c = launch_without(off);
        const std::string own = inspect(c)["cgroup"];
        CHECK(own != group->name());
        const json by_path = inspect(c, {.program = {}, .cgroup = group->path().string()});
        CHECK(by_path["cgroup"] == group->name());
        CHECK(by_path["fds"].size() == 3);
        const json by_fd = inspect(c, {.program = {}, .cgroup = fd.get()});
        CHECK(by_fd["cgroup"] == group->name() + "/below");
        CHECK(by_fd["fds"].size() == 3);
        CHECK(inspect(c)["cgroup"] == own);  // the forkserver has not moved
    }
    CHECK(group->empties());
}

TEST_CASE("the probe finds the features of a mounted cgroup2, and the variable takes them away") {
    const auto group = mounted_cgroup::create();
    if (!group) return;
    const auto has = [](const client& c, const char* name) {
        const auto& all = c.server().features;
        return std::find(all.begin(), all.end(), name) != all.end();
    };
    const bool kills = fs::exists(group->path() / "cgroup.kill");
    CHECK(has(launch_without(""), "cgroup_kill") == kills);
    for (const char* name : {"cgroup_kill", "clone_into_cgroup"})
        CHECK_FALSE(has(launch_without(name), name));
}

TEST_CASE("a child in a cgroup has every other attribute") {
    const auto group = mounted_cgroup::create();
    if (!group) return;
    const unique_fd zero(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
    const unique_fd program = open_program(helper("inspect"));
    for (const std::string& off : variants()) {
        INFO("features forced off: " << off);
        const client c = launch_without(off);
        const json seen = inspect(c, {.program = program.get(),
                                      .argv0 = "all",
                                      .fds = {{zero.get(), 500}},
                                      .listen_fds = {{zero.get(), "zero"}},
                                      .env = environment::exactly({{"A", "1"}}),
                                      .cwd = "/usr",
                                      .umask = 077,
                                      .group = {.how = process_group::kind::session},
                                      .rlimits = {{RLIMIT_NOFILE, 20, 30}},
                                      .nice = 5,
                                      .sched = scheduling{SCHED_BATCH},
                                      .oom_score_adj = 500,
                                      .no_new_privs = true,
                                      .parent_death_signal = SIGUSR1,
                                      .cgroup = group->path().string()});
        CHECK(seen["cgroup"] == group->name());
        CHECK(seen["argv"] == json({"all"}));
        CHECK(seen["fds"].size() == 5);
        CHECK(seen["fds"]["500"]["link"] == "/dev/zero");
        CHECK(variable(seen, "LISTEN_PID") == std::to_string(seen["pid"].get<int>()));
        CHECK(variable(seen, "A") == "1");
        CHECK(seen["environment"].size() == 4);
        CHECK(seen["cwd"] == "/usr");
        CHECK(seen["umask"] == 077);
        CHECK(seen["sid"] == seen["pid"]);
        CHECK(seen["rlimits"][RLIMIT_NOFILE] == json({20, 30}));
        CHECK(seen["nice"] == 5);
        CHECK(seen["policy"] == SCHED_BATCH);
        CHECK(seen["oom_score_adj"] == 500);
        CHECK(seen["no_new_privs"] == 1);
        CHECK(seen["parent_death_signal"] == SIGUSR1);
        CHECK(seen["ppid"] == c.server().pid);
        for (const char* set : {"ignored", "caught", "blocked", "pending"})
            CHECK_MESSAGE(seen["signals"][set].empty(), set);
    }
}

TEST_CASE("a step that fails in a cgroup is named as elsewhere, and leaves the cgroup empty") {
    const auto group = mounted_cgroup::create();
    if (!group) return;
    const std::string path = group->path();
    const std::vector<failing> all = {
        {"chdir",
         step::chdir,
         ENOENT,
         "/no/such",
         {.program = "/bin/true", .cwd = "/no/such", .cgroup = path}},
        {"exec", step::exec, ENOENT, "/no/such", {.program = "/no/such", .cgroup = path}},
        {"rlimit",
         step::rlimit,
         EPERM,
         "resource 7",
         {.program = "/bin/true",
          .rlimits = {{RLIMIT_NOFILE, 10, rlim_t{1} << 40}},
          .cgroup = path}},
    };
    for (const std::string& off : variants()) {
        const client c = launch_without(off);
        INFO("features forced off: " << off);
        for (const failing& f : all) check_outcome(f, try_failing(c, f));
        CHECK(group->empties());
    }
}

TEST_CASE("cgroups that take no process are refused with the kernel's reason") {
    const auto group = mounted_cgroup::create();
    if (!group) return;
    const fs::path removed = group->make_below("removed");
    const unique_fd gone = open_directory(removed);
    REQUIRE(::rmdir(removed.c_str()) == 0);
    // A threaded child makes its siblings unfit for processes.
    const fs::path domain = group->make_below("domain");
    fs::create_directory(domain / "threaded");
    fs::create_directory(domain / "invalid");
    std::ofstream(domain / "threaded/cgroup.type") << "threaded";
    for (const std::string& off : variants()) {
        INFO("features forced off: " << off);
        const client c = launch_without(off);
        const std::string invalid = domain / "invalid";
        const failing unfit{"invalid",
                            step::cgroup,
                            EOPNOTSUPP,
                            invalid,
                            {.program = "/bin/true", .cgroup = invalid}};
        check_outcome(unfit, try_failing(c, unfit));
        const failing dead{"removed",
                           step::cgroup,
                           ENOENT,
                           "descriptor of the cgroup",
                           {.program = "/bin/true", .cgroup = gone.get()}};
        check_outcome(dead, try_failing(c, dead));
        const failing relative{"relative",
                               step::request,
                               EINVAL,
                               "cgroup",
                               {.program = "/bin/true", .cgroup = "some/where"}};
        check_outcome(relative, try_failing(c, relative));
    }
}

TEST_CASE(
    "a frozen cgroup is refused: a child there could not begin, and its forkserver would hang") {
    const auto group = mounted_cgroup::create();
    if (!group) return;
    const fs::path inner = group->make_below("inner");
    for (const std::string& off : variants()) {
        INFO("features forced off: " << off);
        const client c = launch_without(off);
        std::ofstream(group->path() / "cgroup.freeze") << "1";
        for (const std::string& path : {group->path().string(), inner.string()}) {
            const failing frozen{
                "frozen", step::cgroup, EBUSY, path, {.program = "/bin/true", .cgroup = path}};
            check_outcome(frozen, try_failing(c, frozen));
        }
        std::ofstream(group->path() / "cgroup.freeze") << "0";
        CHECK(inspect(c, {.program = {}, .cgroup = inner.string()})["cgroup"] ==
              group->name() + "/inner");
    }
}

TEST_CASE("the end of a client ends all of a cgroup, sessions and forks included") {
    const auto group = mounted_cgroup::create();
    if (!group) return;
    int number = 0;
    const auto end_all = [&](const std::string& off, bool by_signal) {
        INFO("features forced off: " << off << ", by signal: " << by_signal);
        // A new one each: what is left of a grace is for the processes of the old.
        const fs::path path = group->make_below(("run-" + std::to_string(number++)).c_str());
        client c = launch_without(off);
        const process p =
            c.spawn({.program = "/bin/sh",
                     .args = {"-c", "trap '' TERM; setsid sleep 1000 & echo on; cat; wait"},
                     .in = stdio::pipe{},
                     .out = stdio::pipe{},
                     .cgroup = path.string(),
                     .lifetime = {.grace = std::chrono::milliseconds(50),
                                  .target = signal_target::cgroup}});
        char line[3];
        REQUIRE(::read(p.out(), line, sizeof line) == sizeof line);
        if (by_signal) {
            c.signal(p.child_id(), SIGKILL, signal_target::cgroup);
            CHECK(p.wait() == exit_status::signaled(SIGKILL, false));
        } else {
            c = client();
        }
        CHECK(group->empties());
    };
    for (const std::string& off : variants())
        for (const bool by_signal : {true, false}) end_all(off, by_signal);
}
