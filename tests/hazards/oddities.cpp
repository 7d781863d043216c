// Group 8: what belongs to the process as a whole, and to whoever touches it last.
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>

#include "tests/hazards/scene.hpp"

namespace hazards {

namespace {

constexpr int k_code = 7;
const job exit_seven("exit_seven", [](const task&) { return k_code; });

verdict exact(const ending& e) {
    if (!e.hung && e.status == cleanfork::exit_status::exited(k_code)) return {};
    return damage{"lost", "the child exited 7; the parent learns: " + e.text()};
}

// A library that reaps whatever ends, in the manner of many a process supervisor.
void steal_status(const scene& s) {
    s.each([&](unsigned) {
        child c = s.start(exit_seven);
        readable(c.pidfd(), bound(k_hang));
        while (::waitpid(-1, nullptr, WNOHANG) > 0) {
        }
        return exact(c.wait());
    });
}
const registration stolen({8, "waitpid", "waitpid(-1) in a library takes the status", 40, 200,
                           &steal_status});

// A library that wants no zombies of its own.
void ignore_children(const scene& s) {
    ::signal(SIGCHLD, SIG_IGN);
    s.each([&](unsigned) { return exact(s.start(exit_seven).wait()); });
    ::signal(SIGCHLD, SIG_DFL);
}
const registration ignored({8, "sigchld-ignored", "SIGCHLD ignored by a library: no status", 40,
                            200, &ignore_children});

std::atomic<int> ends_seen = 0;
void see_end(int) { ++ends_seen; }

// The program counts ends of children by SIGCHLD; a library installs a handler of its own.
// Without the program's handler it has to look by itself, which a pidfd allows.
void take_over_handler(const scene& s) {
    s.each([&](unsigned) -> verdict {
        ends_seen = 0;
        ::signal(SIGCHLD, &see_end);
        ::signal(SIGCHLD, [](int) {});  // the library
        child c = s.start(exit_seven);
        const bool told = s.forks() ? (readable(c.pidfd(), bound(k_hang)), ends_seen > 0)
                                    : readable(c.pidfd(), bound(k_hang));
        ::signal(SIGCHLD, SIG_DFL);
        if (verdict v = exact(c.wait())) return v;
        if (told) return {};
        return damage{"not told", "the child has ended; the program's handler was not called"};
    });
}
const registration taken({8, "sigchld-handler", "a SIGCHLD handler, taken over by a library", 40,
                          200, &take_over_handler});

// ---- zombies

bool is_zombie(pid_t pid) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
    std::string text;
    std::getline(file, text);
    const auto end = text.rfind(')');
    return end != std::string::npos && text.at(end + 2) == 'Z';
}

// The program is not interested in how the child ends.
void forget_children(const scene& s) {
    s.each([&](unsigned) -> verdict {
        child c = s.start(exit_seven);
        readable(c.pidfd(), bound(k_hang));
        const auto deadline = std::chrono::steady_clock::now() + bound(100ms);
        while (is_zombie(c.id()) && std::chrono::steady_clock::now() < deadline)
            std::this_thread::yield();
        if (!is_zombie(c.id())) return {};
        return damage{"zombie", "process " + std::to_string(c.id()) + " has ended and is there"};
    });
}
const registration forgotten({8, "zombies", "children that nobody waits for: zombies", 20, 100,
                              &forget_children});

// ---- the parent-death signal

const job live_with_parent("live_with_parent", [](const task& t) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    write_all(t.fd("ready"), "x");
    char c = 0;
    read_exactly(t.fd("until"), &c, 1);
    return k_code;
});

// Meant: the child ends with its parent. It ends with the thread that started it.
void end_thread(const scene& s) {
    s.each([&](unsigned) -> verdict {
        pipe_ends ready = make_pipe(), until = make_pipe();
        std::optional<child> c;
        std::thread([&] {
            c.emplace(s.start(live_with_parent, {.fds = {{"ready", ready.write.get()},
                                                         {"until", until.read.get()}}}));
            readable(ready.read.get(), bound(k_hang));
        }).join();
        const bool killed = readable(c->pidfd(), 20ms);
        write_all(until.write.get(), "x");
        const ending e = c->wait();
        if (!killed) return exact(e);
        return damage{"killed", "a thread ended, the parent lives, the child " + e.text()};
    });
}
const registration thread_ended({8, "pdeathsig", "PDEATHSIG, by a thread that ended", 20, 100,
                                 &end_thread});

// ---- what a program does at its end

std::string lock_file;

const job nothing_much("nothing_much", [](const task&) { return 0; });

// The program takes its lock file away when it ends. So does a copy of it.
void end_program(const scene& s) {
    const char* directory = std::getenv("TMPDIR");
    lock_file = std::string(directory != nullptr ? directory : "/tmp") + "/hazard-XXXXXX";
    const cleanfork::unique_fd made(::mkstemp(lock_file.data()));
    const pid_t self = ::getpid();
    std::atexit([] { ::unlink(lock_file.c_str()); });
    s.each([&](unsigned) -> verdict {
        std::ofstream(lock_file) << self;
        s.start(nothing_much, {}, leave::with_exit).wait();
        struct stat there {};
        if (::stat(lock_file.c_str(), &there) == 0) return {};
        return damage{"removed", "the child's exit() has removed the parent's lock file"};
    });
}
const registration at_exit({8, "atexit", "atexit handlers run in the child too", 20, 100,
                            &end_program});

}  // namespace

}  // namespace hazards
