// The audit: each hazard is found by its name in a process that has it, and is not
// there before.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <filesystem>
#include <functional>
#include <future>
#include <thread>

#include "tests/unit/audit/audit_victim.hpp"

using namespace cleanfork;
using namespace cleanfork::ipc;
using namespace cleanfork::test;

namespace {

// The one finding in a process that did `act`; nothing else but that may be found.
finding found_after(hazard kind, const std::function<void()>& act) {
    const victim v(act);
    CHECK(summary(report_of(v.pid())) == "nothing that a fork would break");
    v.change();
    const audit_report after = report_of(v.pid());
    INFO(summary(after));
    const auto found = of_kind(after, kind);
    REQUIRE(found.size() == 1);
    CHECK(after.findings.size() == 1);
    CHECK_FALSE(after.safe());
    return found.front();
}

int new_io_uring() {
    io_uring_params parameters{};
    return static_cast<int>(::syscall(SYS_io_uring_setup, 4, &parameters));
}

}  // namespace

TEST_CASE("a process with files, directories, pipes, memfds and /dev/null is safe to fork from") {
    const victim v([] {
        keep(::open("/", O_RDONLY | O_DIRECTORY));
        ::open("/proc/self/status", O_RDONLY);
        ::memfd_create("harmless", 0);
        for (const char* device : {"/dev/null", "/dev/zero", "/dev/full", "/dev/urandom"})
            ::open(device, O_RDONLY);
        ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        ::mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, ::open("/dev/zero", O_RDONLY), 0);
        ::syscall(SYS_pidfd_open, ::getpid(), 0);
    });
    const std::size_t before = report_of(v.pid()).descriptors;
    v.change();
    const audit_report report = report_of(v.pid());
    CHECK(summary(report) == "nothing that a fork would break");
    CHECK(report.safe());
    CHECK(report.pid == v.pid());
    CHECK(report.threads == 1);
    CHECK(report.descriptors == before + 9);
    CHECK(report.name == report_of(::getpid()).name);
}

TEST_CASE("a thread is found by its name and the object file it was started to run") {
    const std::string here = std::filesystem::read_symlink("/proc/self/exe");
    const auto by_library = [] {
        std::promise<void> runs;
        std::thread([&runs] {
            runs.set_value();
            wait_for_ever(nullptr);
        }).detach();
        runs.get_future().wait();
    };
    for (const std::function<void()>& act :
         {std::function<void()>(&start_thread), std::function<void()>(by_library)}) {
        const finding f = found_after(hazard::thread, act);
        CHECK(f.library == here);
        CHECK(f.what == f.name + " (" + std::to_string(f.number) + "), started by " + here);
    }
    CHECK(found_after(hazard::thread, &start_thread).name == "audited_thread");
}

TEST_CASE("the thread that jemalloc keeps in order over a fork is no hazard") {
    const victim v([] { start_named_thread("jemalloc_bg_thd"); });
    v.change();
    const audit_report report = report_of(v.pid());
    CHECK(report.safe());
    CHECK(report.threads == 2);
}

TEST_CASE("a thread that has ended and is still in /proc is no hazard") {
    static int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    const victim v([] {
        ::close(ends[1]);
        std::thread([] {
            char byte = 0;
            [[maybe_unused]] const ssize_t n = ::read(ends[0], &byte, 1);
        }).detach();
    });
    v.change();
    const int thread = report_of(v.pid()).findings.front().number;
    // A tracer keeps what is left of it.
    REQUIRE(::ptrace(PTRACE_SEIZE, thread, nullptr, nullptr) == 0);
    ::close(ends[1]);
    ::close(ends[0]);
    siginfo_t info{};
    REQUIRE(::waitid(P_PID, static_cast<id_t>(thread), &info, WEXITED | WNOWAIT | __WALL) == 0);
    const audit_report report = report_of(v.pid());
    CHECK(report.threads == 2);
    CHECK_MESSAGE(report.safe(), summary(report));
    ::waitid(P_PID, static_cast<id_t>(thread), &info, WEXITED | __WALL);
}

TEST_CASE("the position of a file is told as shared, and is no hazard") {
    const victim v([] {
        keep(::open("/proc/self/exe", O_RDONLY));
        ::lseek(k_number, 7, SEEK_SET);
    });
    v.change();
    const audit_report report = report_of(v.pid());
    CHECK(report.safe());
    const auto is_ours = [](const shared_position& p) { return p.descriptor == k_number; };
    const auto at = std::find_if(report.positions.begin(), report.positions.end(), is_ours);
    REQUIRE(at != report.positions.end());
    CHECK(at->position == 7);
    CHECK(at->path == std::filesystem::read_symlink("/proc/self/exe"));
}

TEST_CASE("each kind of descriptor is found by its number and kind") {
    CHECK(found_after(hazard::epoll, [] { keep(::epoll_create1(0)); }).what ==
          "40 anon_inode:[eventpoll]");
    CHECK(found_after(hazard::eventfd, [] { keep(::eventfd(0, 0)); }).number == k_number);
    CHECK(found_after(hazard::timerfd, [] { keep(::timerfd_create(CLOCK_MONOTONIC, 0)); }).number ==
          k_number);
    CHECK(found_after(hazard::signalfd, [] {
              sigset_t none;
              ::sigemptyset(&none);
              keep(::signalfd(-1, &none, 0));
          }).number == k_number);
    CHECK(found_after(hazard::inotify, [] { keep(::inotify_init1(0)); }).number == k_number);
    CHECK(found_after(hazard::device, [] {
              keep(::open("/dev/ptmx", O_RDWR | O_NOCTTY));
          }).what.ends_with("ptmx"));
}

TEST_CASE("sockets are named with protocol and addresses") {
    CHECK(found_after(hazard::socket, [] {
              keep(::socket(AF_INET, SOCK_STREAM, 0));
              ::listen(k_number, 1);
          }).name.find("tcp 0.0.0.0:") == 0);
    const finding six = found_after(hazard::socket, [] {
        keep(::socket(AF_INET6, SOCK_DGRAM, 0));
        sockaddr_in6 any{};
        any.sin6_family = AF_INET6;
        if (::bind(k_number, reinterpret_cast<sockaddr*>(&any), sizeof any) != 0) ::_exit(2);
    });
    CHECK(six.name.starts_with("udp6 [::]:"));
    CHECK(found_after(hazard::socket, [] { keep(::socket(AF_UNIX, SOCK_SEQPACKET, 0)); }).what ==
          "40 unix seqpacket");
    CHECK(found_after(hazard::socket, [] {
              keep(::socket(AF_UNIX, SOCK_STREAM, 0));
              const sockaddr_un any{AF_UNIX, ""};  // the kernel chooses an abstract name
              if (::bind(k_number, reinterpret_cast<const sockaddr*>(&any),
                         sizeof any.sun_family) != 0)
                  ::_exit(2);
          }).name.starts_with("unix stream @"));
    CHECK(found_after(hazard::socket, [] { keep(::socket(AF_NETLINK, SOCK_RAW, 0)); }).name ==
          "NETLINK");
}

TEST_CASE("an io_uring is found, also when only its mapping is left") {
    if (const unique_fd ring(new_io_uring()); !ring) {
        MESSAGE("skipped: io_uring_setup: ", std::string(::strerror(errno)));
        return;
    }
    CHECK(found_after(hazard::io_uring, [] { keep(new_io_uring()); }).number == k_number);
    const finding f = found_after(hazard::io_uring, [] {
        keep(new_io_uring());
        ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, k_number, IORING_OFF_SQ_RING);
        ::close(k_number);
    });
    CHECK(f.number == -1);
    CHECK(f.what == "mapped anon_inode:[io_uring]");
}

TEST_CASE("a userfaultfd is found") {
    constexpr int k_user_mode_only = 1;
    const auto make = [] {
        return static_cast<int>(::syscall(SYS_userfaultfd, k_user_mode_only | O_CLOEXEC));
    };
    if (const unique_fd fd(make()); !fd) {
        MESSAGE("skipped: userfaultfd: ", std::string(::strerror(errno)));
        return;
    }
    CHECK(found_after(hazard::userfaultfd, [&] { keep(make()); }).number == k_number);
}

TEST_CASE("an asynchronous I/O context is found") {
    aio_context_t context = 0;
    if (::syscall(SYS_io_setup, 1, &context) != 0) {
        MESSAGE("skipped: io_setup: ", std::string(::strerror(errno)));
        return;
    }
    ::syscall(SYS_io_destroy, context);
    found_after(hazard::aio, [] {
        aio_context_t own = 0;
        ::syscall(SYS_io_setup, 1, &own);
    });
}

TEST_CASE("POSIX timers, pending signals and children are found") {
    const finding timer = found_after(hazard::posix_timer, [] {
        sigevent event{};
        event.sigev_notify = SIGEV_SIGNAL;
        event.sigev_signo = SIGUSR2;
        timer_t made{};
        ::timer_create(CLOCK_MONOTONIC, &event, &made);
    });
    CHECK(timer.what.find("SIGUSR2") != std::string::npos);
    const auto hold = [](int signal) {
        sigset_t set;
        ::sigemptyset(&set);
        ::sigaddset(&set, signal);
        ::sigprocmask(SIG_BLOCK, &set, nullptr);
        ::kill(::getpid(), signal);
    };
    CHECK(found_after(hazard::pending_signal, [&] { hold(SIGUSR1); }).name == "SIGUSR1");
    CHECK(found_after(hazard::pending_signal, [&] { hold(SIGRTMIN + 2); }).name == "SIGRTMIN+2");
    // Stopped, it does not take what is not blocked: that is no state of its own.
    const victim stopped([] {});
    ::kill(stopped.pid(), SIGSTOP);
    siginfo_t stop{};
    ::waitid(P_PID, static_cast<id_t>(stopped.pid()), &stop, WSTOPPED | WNOWAIT);
    ::kill(stopped.pid(), SIGTERM);
    CHECK(report_of(stopped.pid()).safe());
    const finding child = found_after(hazard::child, [] { start_child(); });
    CHECK(child.number > 1);
    CHECK(child.name == report_of(::getpid()).name);
    CHECK(found_after(hazard::child, [] {
              const pid_t pid = ::fork();
              if (pid == 0) ::_exit(0);
              siginfo_t info{};
              ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT);
          }).what.ends_with(", ended and not reaped"));
}

TEST_CASE("file locks are found with their kind and file") {
    const finding shared = found_after(hazard::file_lock, [] {
        keep(::memfd_create("locked", 0));
        ::flock(k_number, LOCK_EX);
    });
    CHECK(shared.what == "40 FLOCK WRITE /memfd:locked (deleted)");
    const finding record = found_after(hazard::file_lock, [] {
        keep(::memfd_create("locked", 0));
        struct flock all {};
        all.l_type = F_RDLCK;
        ::fcntl(k_number, F_SETLK, &all);
    });
    CHECK(record.what == "40 POSIX READ /memfd:locked (deleted)");
}

TEST_CASE("what the caller allows is no finding, nor what it does not ask for") {
    const victim v([] {
        keep(::epoll_create1(0));
        ::flock(::memfd_create("locked", 0), LOCK_EX);
        start_child();
    });
    v.change();
    const audit_report all = report_of(v.pid());
    const auto child = of_kind(all, hazard::child), locks = of_kind(all, hazard::file_lock);
    REQUIRE(child.size() == 1);
    REQUIRE(locks.size() == 1);
    const std::array descriptors = {k_number, locks[0].number};
    const std::array<pid_t, 1> children = {child[0].number};
    CHECK(report_of(v.pid(), {.allowed_descriptors = descriptors, .allowed_children = children})
              .safe());
    CHECK(report_of(v.pid(), {.descriptors = false, .children = false}).safe());
    const audit_report rest = report_of(v.pid(), {.locks = false, .children = false});
    CHECK(summary(rest) == "1 epoll descriptor (40)");
}

TEST_CASE("a summary counts and names what was found, and no more than eight of a kind") {
    audit_report report;
    for (const char* name : {"grpc_global_tim", "event_engine"})
        report.findings.push_back({hazard::thread, 5, name, std::string(name) + " (5)"});
    report.findings.push_back({hazard::epoll, 7, "anon_inode:[eventpoll]", ""});
    report.findings.push_back({hazard::device, -1, "/dev/nvidia0", "mapped /dev/nvidia0"});
    CHECK(summary(report) ==
          "2 extra threads: grpc_global_tim, event_engine; 1 epoll descriptor (7); "
          "1 device: /dev/nvidia0");
    report.findings.assign(11, {hazard::socket, 3, "socket:[1]", ""});
    CHECK(summary(report) == "11 sockets (3, 3, 3, 3, 3, 3, 3, 3 and 3 more)");
    for (int h = 0; h <= static_cast<int>(hazard::file_lock); ++h) {
        CHECK_FALSE(to_string(static_cast<hazard>(h)).empty());
        CHECK_FALSE(consequence(static_cast<hazard>(h)).empty());
        CHECK_FALSE(remedy(static_cast<hazard>(h)).empty());
    }
}
