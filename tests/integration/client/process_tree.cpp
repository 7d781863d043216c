// The forkserver and its children as descendants of the program, and what the program notices of
// the reaper between: nothing.
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <filesystem>

#include "tests/integration/attributes/inspection.hpp"
#include "tests/integration/client/client_support.hpp"

using namespace cleanfork;
using namespace cleanfork::test;

namespace {

pid_t parent_of(pid_t pid) { return std::atoi(proc_status(pid, "PPid").c_str()); }

// As psutil's children(recursive=True) finds it: by the parents that /proc tells.
bool descends(pid_t pid) {
    while (pid > 1 && pid != ::getpid()) pid = parent_of(pid);
    return pid == ::getpid();
}

std::vector<pid_t> reapers() {
    std::vector<pid_t> found;
    for (const pid_t pid : children_of(::getpid()))
        if (slurp("/proc/" + std::to_string(pid) + "/comm").starts_with("cleanfork-"))
            found.push_back(pid);
    return found;
}

// Those whose forkservers have ended know it soon.
void await_idle_reapers() {
    for (const pid_t pid : reapers())
        while (slurp("/proc/" + std::to_string(pid) + "/comm") == "cleanfork-wait\n")
            ::sched_yield();
}

pid_t reaper_of(const client& c) { return parent_of(c.server().pid); }

volatile sig_atomic_t child_signals = 0;

class counting_child_signals {
public:
    counting_child_signals() {
        child_signals = 0;
        struct sigaction counting {};
        counting.sa_handler = [](int) { child_signals = child_signals + 1; };
        ::sigaction(SIGCHLD, &counting, &before_);
    }
    counting_child_signals(const counting_child_signals&) = delete;
    counting_child_signals& operator=(const counting_child_signals&) = delete;
    ~counting_child_signals() { ::sigaction(SIGCHLD, &before_, nullptr); }

private:
    struct sigaction before_ {};
};

bool wait_meets_nobody() { return ::waitpid(-1, nullptr, WNOHANG) == -1 && errno == ECHILD; }

// From a launch to the end of the forkserver; what the program would notice. Empty: nothing.
std::string noticed(int spawns) {
    const counting_child_signals counting;
    pid_t server = 0;
    {
        const client c = launch({.descendant = true});
        server = c.server().pid;
        const process p = c.spawn({.program = "sleep", .args = {"infinity"}});
        if (!descends(p.id())) return "the child is no descendant";
        if (!wait_meets_nobody()) return "a wait met the reaper";
        for (int i = 0; i < spawns; ++i)
            if (!c.run({.program = "true"}).status.success()) return "a spawn failed";
    }
    if (!ends(server)) return "the forkserver goes on";
    if (!wait_meets_nobody()) return "a wait met the forkserver";
    return child_signals == 0 ? "" : std::to_string(child_signals) + " SIGCHLD";
}

// Runs `act` in a process of its own, single-threaded here; its exit status.
template <class Act>
int in_another(Act&& act) {
    const pid_t other = ::fork();
    if (other == 0) ::_exit(act());
    int status = -1;
    REQUIRE(::waitpid(other, &status, 0) == other);
    return status;
}

int tell(const std::string& complaint) {
    if (!complaint.empty()) std::fprintf(stderr, "%s\n", complaint.c_str());
    return complaint.empty() ? 0 : 1;
}

// A page of this process that is never unmapped again; false where the kernel cannot.
bool seal_a_page() {
    constexpr long k_mseal = 462;  // Linux 6.10
    void* const at = ::mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return ::syscall(k_mseal, at, 4096UL, 0UL) == 0;
}

}  // namespace

TEST_CASE("a thousand spawns by a descendant give the program no SIGCHLD and no child") {
    CHECK(noticed(1000) == "");
    CHECK(reapers().empty());
}

TEST_CASE("a subreaper inherits no forkserver, whatever it asked for") {
    const subreaper guard;
    CHECK(noticed(1) == "");
    const counting_child_signals counting;
    const pid_t server = launch({.descendant = false}).server().pid;
    CHECK(ends(server));
    CHECK(wait_meets_nobody());
    CHECK(child_signals == 0);
    await_idle_reapers();
}

TEST_CASE("what a closed client left to a subreaper ends with the next launch") {
    {
        const subreaper guard;
        for (int i = 0; i < 3; ++i) {
            std::optional<client> c(launch());
            CHECK(reapers() == std::vector<pid_t>{reaper_of(*c)});
            const unique_fd server = ipc::pidfd_open(c->server().pid);
            c.reset();
            REQUIRE(ipc::pidfd_wait(server.get(), ipc::pidfd_event::reaped, k_patience_ms));
            await_idle_reapers();
        }
    }
    (void)launch({.descendant = true});
    CHECK(reapers().empty());
}

TEST_CASE("process 1 of a PID namespace inherits no forkserver") {
    const int status = in_another([] {
        if (::unshare(CLONE_NEWPID) != 0) return 77;
        const pid_t first = ::fork();
        if (first == 0) ::_exit(::getpid() == 1 ? 0 : 2);
        ::waitpid(first, nullptr, 0);
        return 0;
    });
    if (WEXITSTATUS(status) == 77) {
        MESSAGE("not tried: unshare(CLONE_NEWPID) is not permitted here");
        return;
    }
    CHECK(in_another([] {
              if (::unshare(CLONE_NEWPID) != 0) return 3;
              return in_another([] {
                         const counting_child_signals counting;
                         pid_t server = 0;
                         {
                             const client c = launch();
                             server = c.server().pid;
                             if (!c.run({.program = "true"}).status.success()) return 4;
                             if (::getpid() != 1 || !wait_meets_nobody()) return 5;
                         }
                         if (!ends(server) || !wait_meets_nobody()) return 6;
                         return child_signals == 0 ? 0 : 7;
                     }) == 0
                         ? 0
                         : 8;
          }) == 0);
}

TEST_CASE("the reaper has no memory, no descriptor and no directory of the program") {
    const auto check = [] {
        const client c = launch({.descendant = true});
        const std::string at = "/proc/" + std::to_string(reaper_of(c));
        const auto descriptors = std::filesystem::directory_iterator(at + "/fd");
        if (std::distance(begin(descriptors), end(descriptors)) != 3) return tell("descriptors");
        if (std::filesystem::read_symlink(at + "/cwd") != "/") return tell("directory");
        // What is unmapped last: wait for it.
        const unique_fd reaper = ipc::pidfd_open(reaper_of(c));
        while (std::atoi(proc_status(reaper_of(c), "VmSize").c_str()) > 8192)
            if (ipc::pidfd_wait(reaper.get(), ipc::pidfd_event::ended, 1)) return tell("ended");
        const int resident = std::atoi(proc_status(reaper_of(c), "VmRSS").c_str());
#ifdef __SANITIZE_ADDRESS__
        const int most = 8192;  // with the sanitizer's own memory for what is mapped
#else
        const int most = 1024;
#endif
        return resident < most ? 0 : tell(std::to_string(resident) + " KiB");
    };
    CHECK(in_another(check) == 0);
    CHECK(in_another([&] {
              if (!seal_a_page()) std::fputs("mseal(2) is missing: tried without\n", stderr);
              return check();
          }) == 0);
}

TEST_CASE("signals to the program's process group do not end the reaper before it") {
    const client c = launch({.descendant = true});
    const pid_t reaper = reaper_of(c);
    CHECK(::getpgid(reaper) == ::getpgrp());
    for (const int number : {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGTSTP, SIGRTMIN})
        ::kill(reaper, number);
    CHECK(c.run({.program = "true"}).status.success());
    CHECK(reaper_of(c) == reaper);
    CHECK(proc_status(reaper, "State").starts_with("S"));
}

TEST_CASE("the forkserver goes on when its reaper is killed, and nothing is left") {
    std::optional<client> c(launch({.descendant = true}));
    const pid_t server = c->server().pid;
    const unique_fd reaper = ipc::pidfd_open(reaper_of(*c));
    REQUIRE(ipc::pidfd_signal(reaper.get(), SIGKILL) == 0);
    REQUIRE(ipc::pidfd_wait(reaper.get(), ipc::pidfd_event::ended, k_patience_ms));
    CHECK_FALSE(descends(server));
    CHECK(c->run({.program = "true"}).status.success());
    CHECK(wait_meets_nobody());
    c.reset();
    CHECK(ends(server));
    CHECK(::waitpid(-1, nullptr, WNOHANG | __WALL) == -1);
}

TEST_CASE("the forkserver of a lost session is reaped, and its reaper with the client") {
    const counting_child_signals counting;
    {
        const client c = launch({.descendant = true});
        const unique_fd server = ipc::pidfd_open(c.server().pid);
        REQUIRE(ipc::pidfd_signal(server.get(), SIGKILL) == 0);
        CHECK(ipc::pidfd_wait(server.get(), ipc::pidfd_event::reaped, k_patience_ms));
        CHECK(wait_meets_nobody());
    }
    CHECK(child_signals == 0);
    CHECK(::waitpid(-1, nullptr, WNOHANG | __WALL) == -1);
}

TEST_CASE("all of it ends when the program is killed") {
    int fds[2];
    REQUIRE(::pipe2(fds, O_CLOEXEC) == 0);
    const unique_fd read_end(fds[0]);
    unique_fd write_end(fds[1]);
    const pid_t program = ::fork();
    if (program == 0) {
        const client c = launch({.descendant = true});
        const process p = c.spawn({.program = "sleep", .args = {"infinity"}});
        const pid_t told[] = {reaper_of(c), c.server().pid, p.id()};
        if (::write(write_end.get(), told, sizeof told) != sizeof told) ::_exit(1);
        ::pause();
    }
    write_end.reset();
    pid_t told[3]{};
    REQUIRE(::read(read_end.get(), told, sizeof told) == sizeof told);
    std::vector<unique_fd> all;
    for (const pid_t pid : told) all.push_back(ipc::pidfd_open(pid));
    ::kill(program, SIGKILL);
    CHECK(::waitpid(program, nullptr, 0) == program);
    for (const unique_fd& each : all)
        CHECK(ipc::pidfd_wait(each.get(), ipc::pidfd_event::ended, k_patience_ms));
}

TEST_CASE("a program with much memory is copied only when it asks for it") {
    constexpr std::size_t k_size = 300 << 20;
    void* const at =
        ::mmap(nullptr, k_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(at != MAP_FAILED);
    ::madvise(at, k_size, MADV_HUGEPAGE);
    CHECK(descends(launch().server().pid));
    std::fill_n(static_cast<char*>(at), k_size, 'x');
    CHECK_FALSE(descends(launch().server().pid));
    CHECK(descends(launch({.descendant = true}).server().pid));
    ::munmap(at, k_size);
    CHECK_FALSE(descends(launch({.descendant = false}).server().pid));
}

TEST_CASE("where the kernel refuses the reaper the forkserver is launched without it") {
    constexpr unsigned k_flags = CLONE_PARENT | SIGCHLD;
    const client outside = launch();
    const auto denied = [&](std::vector<std::string> words) {
        words.push_back("--deny=clone:arg0=" + std::to_string(k_flags) + "=" +
                        std::to_string(EPERM));
        words.push_back("--program=" CLEANFORK_BIN_DIR "/cleanfork");
        return outside.run(
            {.program = helper("deny"), .args = words, .out = stdio::pipe{}, .err = stdio::pipe{}});
    };
    const auto usual = denied({"spawn", "--private", "--", "echo", "works"});
    CHECK(usual.out == "works\n");
    CHECK(usual.err == "");
}
