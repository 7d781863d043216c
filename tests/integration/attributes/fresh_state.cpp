// A child of a process in the worst of states has none of it.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <mutex>
#include <thread>
#include <vector>

#include "tests/integration/attributes/inspection.hpp"

using namespace cleanfork;
using namespace cleanfork::test;

namespace {

constexpr int k_threads = 8;
constexpr int k_descriptors = 500;
constexpr const char* k_unflushed = "left in a buffer";

void on_signal(int) {}

// This process with threads, descriptors, signals, timers, locks and buffers;
// everything is put back at the end.
class dirty_process {
public:
    dirty_process() {
        open_descriptors();
        spoil_signals();
        spoil_timers();
        umask_before_ = ::umask(0777);
        ::prctl(PR_SET_PDEATHSIG, SIGUSR1);
        take_locks();
        for (int i = 0; i < k_threads; ++i) threads_.emplace_back([this] { busy(); });
        while (running_ < k_threads) std::this_thread::yield();
    }
    dirty_process(const dirty_process&) = delete;
    dirty_process& operator=(const dirty_process&) = delete;
    ~dirty_process() {
        stop_ = true;
        for (std::thread& t : threads_) t.join();
        held_.unlock();
        ::prctl(PR_SET_PDEATHSIG, 0);
        ::umask(umask_before_);
        const itimerval none{};
        for (const auto which : {ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF})
            ::setitimer(which, &none, nullptr);
        ::timer_delete(timer_);
        std::fclose(buffered_);
        const timespec now{};
        sigset_t pending;
        sigemptyset(&pending);
        for (const int s : {SIGUSR2, SIGRTMIN + 5}) sigaddset(&pending, s);
        while (::sigtimedwait(&pending, nullptr, &now) > 0) {
        }
        for (const int s : {SIGPIPE, SIGCHLD, SIGHUP, SIGUSR1, SIGRTMIN + 3, SIGRTMAX})
            std::signal(s, SIG_DFL);
        ::pthread_sigmask(SIG_SETMASK, &mask_before_, nullptr);
    }

    [[nodiscard]] int buffered_file() const { return ::fileno(buffered_); }
    [[nodiscard]] const unique_fd& locked_file() const { return locked_; }

private:
    // Half of them without CLOEXEC, which is how they leak elsewhere.
    void open_descriptors() {
        for (int i = 0; i < k_descriptors; ++i) {
            descriptors_.emplace_back(::open("/dev/zero", O_RDONLY | (i % 2 == 0 ? O_CLOEXEC : 0)));
            REQUIRE(descriptors_.back());
        }
        const int memory = ::memfd_create("cleanfork-buffered", 0);
        REQUIRE(memory >= 0);
        buffered_ = ::fdopen(memory, "w");
        std::setvbuf(buffered_, nullptr, _IOFBF, 1 << 16);
        std::fputs(k_unflushed, buffered_);
    }

    void spoil_signals() {
        for (const int s : {SIGPIPE, SIGCHLD, SIGHUP, SIGRTMIN + 3}) std::signal(s, SIG_IGN);
        for (const int s : {SIGUSR1, SIGRTMAX}) std::signal(s, on_signal);
        sigset_t every;
        sigfillset(&every);
        ::pthread_sigmask(SIG_SETMASK, &every, &mask_before_);
        ::kill(::getpid(), SIGUSR2);
        ::kill(::getpid(), SIGRTMIN + 5);
    }

    void spoil_timers() {
        const itimerval hour{{3600, 0}, {3600, 0}};
        for (const auto which : {ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF})
            REQUIRE(::setitimer(which, &hour, nullptr) == 0);
        sigevent event{};
        event.sigev_notify = SIGEV_SIGNAL;
        event.sigev_signo = SIGUSR1;
        REQUIRE(::timer_create(CLOCK_MONOTONIC, &event, &timer_) == 0);
        const itimerspec later{{3600, 0}, {3600, 0}};
        REQUIRE(::timer_settime(timer_, 0, &later, nullptr) == 0);
    }

    void take_locks() {
        locked_.reset(::memfd_create("cleanfork-locked", 0));
        REQUIRE(locked_);
        REQUIRE(::flock(locked_.get(), LOCK_EX | LOCK_NB) == 0);
        struct flock record {};
        record.l_type = F_WRLCK;
        REQUIRE(::fcntl(locked_.get(), F_SETLK, &record) == 0);
        held_.lock();
    }

    // What a fork would copy half done: the allocator's locks and ours.
    void busy() {
        ++running_;
        while (!stop_) {
            const std::lock_guard lock(shared_);
            std::vector<std::string> garbage;
            for (int i = 0; i < 64; ++i) garbage.emplace_back(1000 + i, 'x');
        }
    }

    std::vector<unique_fd> descriptors_;
    std::FILE* buffered_ = nullptr;
    unique_fd locked_;
    sigset_t mask_before_{};
    timer_t timer_{};
    mode_t umask_before_ = 0;
    std::mutex held_, shared_;
    std::atomic<int> running_ = 0;
    std::atomic<bool> stop_ = false;
    std::vector<std::thread> threads_;
};

void check_fresh(const json& seen, pid_t server) {
    REQUIRE(seen["fds"].size() == 3);
    CHECK(seen["fds"]["0"]["null"] == true);
    CHECK(seen["fds"]["2"]["null"] == true);
    for (const char* set : {"ignored", "caught", "blocked", "pending"})
        CHECK_MESSAGE(seen["signals"][set].empty(), set);
    CHECK(seen["umask"] == 022);
    CHECK(seen["timers"].empty());
    CHECK(seen["threads"] == 1);
    CHECK(seen["parent_death_signal"] == 0);
    CHECK(seen["ppid"] == server);
    CHECK(seen["pgid"] == seen["pid"]);
    CHECK(seen["terminal"] == 0);
}

std::string contents_of(int fd) {
    char text[64];
    const ssize_t n = ::pread(fd, text, sizeof text, 0);
    return n < 0 ? "unreadable" : std::string(text, static_cast<std::size_t>(n));
}

}  // namespace

TEST_CASE("the helper sees a spoilt state, so that a fresh one means something") {
    const dirty_process dirty;
    int out[2];
    REQUIRE(::pipe2(out, O_CLOEXEC) == 0);
    const unique_fd read_end(out[0]);
    unique_fd write_end(out[1]);
    const std::string program = helper("inspect");
    // The raw call, and nothing but safe ones after it: this is the hazard itself.
    const long pid = ::syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        ::dup2(write_end.get(), 1);
        ::execl(program.c_str(), "inspect", nullptr);
        ::_exit(1);
    }
    write_end.reset();
    std::string text;
    char part[4096];
    for (ssize_t n = 0; (n = ::read(read_end.get(), part, sizeof part)) > 0;)
        text.append(part, static_cast<std::size_t>(n));
    const json seen = json::parse(text);
    CHECK(seen["fds"].size() >= k_descriptors / 2);
    CHECK(seen["signals"]["ignored"].size() >= 4);
    CHECK(seen["signals"]["blocked"].size() >= 60);
    CHECK(seen["umask"] == 0777);
}

TEST_CASE("a child of a spoilt process is fresh, whichever was first, forkserver or spoiling") {
    std::vector<client> before;
    for (const std::string& off : variants()) before.push_back(launch_without(off));
    const dirty_process dirty;
    std::size_t at = 0;
    for (const std::string& off : variants()) {
        INFO("features forced off: " << off);
        const client after = launch_without(off);
        check_fresh(inspect(before[at]), before[at].server().pid);
        check_fresh(inspect(after), after.server().pid);
        // Nothing came to the forkserver either.
        CHECK(after.stats().descriptors == before[at].stats().descriptors);
        ++at;
    }
    CHECK(contents_of(dirty.buffered_file()).empty());
}

TEST_CASE("threads that spawn at once each get fresh children") {
    const client c = launch_without("");
    const dirty_process dirty;
    std::vector<std::thread> spawners;
    std::vector<std::vector<json>> seen(k_threads);
    for (auto& mine : seen)
        spawners.emplace_back([&c, &mine] {
            for (int i = 0; i < 10; ++i) mine.push_back(inspect(c));
        });
    for (std::thread& t : spawners) t.join();
    for (const auto& mine : seen) {
        REQUIRE(mine.size() == 10);
        for (const json& each : mine) check_fresh(each, c.server().pid);
    }
    CHECK(contents_of(dirty.buffered_file()).empty());
}

TEST_CASE("a lock of the parent is not held by a child that lives on") {
    with_each_variant([](const client& c) {
        process child;
        unique_fd again;
        {
            const dirty_process dirty;
            // An open file description of its own, of the same file.
            again.reset(::open(path_of(dirty.locked_file()).c_str(), O_RDWR | O_CLOEXEC));
            REQUIRE(again);
            child = c.spawn({.program = "/bin/cat", .in = stdio::pipe{}});
            CHECK(::flock(again.get(), LOCK_EX | LOCK_NB) == -1);
        }
        CHECK(child.running());
        CHECK(::flock(again.get(), LOCK_EX | LOCK_NB) == 0);
        struct flock record {};
        record.l_type = F_WRLCK;
        CHECK(::fcntl(again.get(), F_SETLK, &record) == 0);
        child.take_in().reset();
        CHECK(child.wait().success());
    });
}

TEST_CASE("standard streams are /dev/null, readable and writable, unless they are given") {
    const unique_fd report(::memfd_create("cleanfork-report", MFD_CLOEXEC));
    REQUIRE(report);
    with_each_variant([&](const client& c) {
        REQUIRE(::ftruncate(report.get(), 0) == 0);
        const run_result r = c.run(
            {.program = helper("inspect"), .args = {"--to", "9"}, .fds = {{report.get(), 9}}});
        REQUIRE(r.status.success());
        REQUIRE(::lseek(report.get(), 0, SEEK_SET) == 0);
        std::string text(1 << 20, '\0');
        const ssize_t n = ::read(report.get(), text.data(), text.size());
        REQUIRE(n > 0);
        const json seen = json::parse(text.substr(0, static_cast<std::size_t>(n)));
        CHECK(seen["fds"].size() == 4);
        for (const char* fd : {"0", "1", "2"}) {
            CHECK(seen["fds"][fd]["null"] == true);
            CHECK(seen["fds"][fd]["cloexec"] == false);
        }
        CHECK(seen["fds"]["9"]["cloexec"] == false);
        REQUIRE(::lseek(report.get(), 0, SEEK_SET) == 0);
    });
}

TEST_CASE("standard streams can be pipes, files, descriptors, and one another") {
    with_each_variant([](const client& c) {
        const run_result both = c.run({.program = "/bin/sh",
                                       .args = {"-c", "echo out; echo err >&2; cat"},
                                       .in = stdio::pipe{},
                                       .out = stdio::pipe{},
                                       .err = stdio::to_stdout{}},
                                      "fed");
        CHECK(both.out == "out\nerr\nfed");
        CHECK(both.err.empty());
        const run_result apart = c.run({.program = "/bin/sh",
                                        .args = {"-c", "echo out; echo err >&2"},
                                        .out = stdio::pipe{},
                                        .err = stdio::pipe{}});
        CHECK(apart.out == "out\n");
        CHECK(apart.err == "err\n");

        const unique_fd file(::memfd_create("cleanfork-file", MFD_CLOEXEC));
        const std::string path = path_of(file);
        const auto write = [&](bool append) {
            return c
                .run({.program = "/bin/echo", .args = {"line"}, .out = stdio::file{path, append}})
                .status.success();
        };
        CHECK(write(false));
        CHECK(write(true));
        CHECK(contents_of(file.get()) == "line\nline\n");
        CHECK(write(false));
        CHECK(contents_of(file.get()) == "line\n");
        const run_result read =
            c.run({.program = "/bin/cat", .in = stdio::file{path}, .out = stdio::pipe{}});
        CHECK(read.out == "line\n");
    });
}
