// Calls of the daemon that fail: an error ends its request, no more.
#include <dirent.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <set>
#include <thread>

#include "ipc/base/proc.hpp"
#include "ipc/base/process_ref.hpp"
#include "tests/integration/hostile/fault_library.hpp"
#include "tests/integration/hostile/hostile_session.hpp"
#include "tests/integration/templates/template_support.hpp"

using namespace cleanfork;
using namespace cleanfork::testing;

namespace {

std::set<int> sockets_of(pid_t pid) {
    std::set<int> all;
    const std::string path = "/proc/" + std::to_string(pid) + "/fd";
    const unique_fd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    REQUIRE(bool(directory));
    ipc::each_number(directory.get(), [&](const char* name, int fd) {
        if (ipc::read_link(directory.get(), name).starts_with("socket:")) all.insert(fd);
    });
    return all;
}

v1::ClientMessage base_of(std::size_t bytes) {
    v1::ClientMessage m;
    for (std::size_t n = 0; n < bytes; n += 100'000)
        m.mutable_update_base()->mutable_base()->add_environment("A=" + std::string(100'000, 'x'));
    return m;
}

}  // namespace

TEST_CASE("a control socket that cannot be read once loses no child") {
    if (!fault_library::can_be_used()) return;
    if (::geteuid() != 0) {
        MESSAGE("not run: only root sees the descriptors of a daemon that is not dumpable");
        return;
    }
    fault_library faults;
    test_daemon daemon({.environment = faults.environment()});
    raw_session s(daemon);
    const std::set<int> before = sockets_of(daemon.pid());
    REQUIRE(failure_in(add_template(s)) == failure{});
    std::set<int> control = sockets_of(daemon.pid());
    for (const int fd : before) control.erase(fd);
    REQUIRE(control.size() == 3);  // and both ends of a channel for its calls, which is made later
    const pid_t pid = static_cast<pid_t>(template_info(s).generations(0).pid());
    for (const int times : {1, 5}) {
        faults.fail(faulty::recvmsg, ENOMEM, times, *control.begin());
        const sleeping_call c(s);
        CHECK(faults.of(faulty::recvmsg).left == 0);
        c.expect_exact_end(s);
    }
    CHECK(static_cast<pid_t>(template_info(s).generations(0).pid()) == pid);
}

TEST_CASE("a connection that epoll cannot watch is told so, and the others are served") {
    if (!fault_library::can_be_used()) return;
    fault_library faults;
    test_daemon daemon({.environment = faults.environment()});
    raw_session neighbour(daemon);
    const live_child c = neighbour.spawn(sleeper());
    for (const int error : {ENOSPC, ENOMEM}) {
        faults.fail(faulty::epoll_add, error);
        raw_session refused(daemon.connect());
        CHECK(refused.ends());
        CHECK(refused.last_failure.step == step::hello);
        CHECK(refused.last_failure.error_number == error);
        raw_session(daemon).spawn_true();
    }
    REQUIRE(ipc::pidfd_signal(c.pidfd.get(), SIGUSR1) == 0);
    CHECK(neighbour.await_exit(c.id).signal() == SIGUSR1);
}

TEST_CASE("a template whose socket epoll cannot watch is an error of its request") {
    if (!fault_library::can_be_used()) return;
    fault_library faults;
    test_daemon daemon({.environment = faults.environment()});
    raw_session s(daemon);
    REQUIRE(failure_in(add_template(s, {.name = "first"})) == failure{});
    const std::uint64_t descriptors = s.stats().descriptors();
    faults.fail(faulty::epoll_add, ENOSPC);
    const failure f = failure_in(add_template(s));
    CHECK(f.step == step::template_start);
    CHECK(f.error_number == ENOSPC);
    CHECK(s.stats().descriptors() == descriptors);
    REQUIRE(failure_in(add_template(s)) == failure{});
    CHECK(call(s, call_of("exit", {"3"})).exit.code() == 3);
}

TEST_CASE("a request for which there is no memory fails, and its session and the others go on") {
    if (!fault_library::can_be_used()) return;
    fault_library faults;
    test_daemon daemon({.environment = faults.environment()});
    raw_session neighbour(daemon);
    raw_session s(daemon);
    const live_child c = s.spawn(sleeper());
    // Wherever on its way the large request first needs that much.
    for (const std::size_t size : {std::size_t{50'000}, std::size_t{90'000}}) {
        faults.fail(faulty::allocation, ENOMEM, 1, -1, size);
        const failure f = failure_in(s.request(base_of(4'000'000)));
        CHECK(faults.of(faulty::allocation).left == 0);
        CHECK(f.error_number == ENOMEM);
        neighbour.spawn_true();
        s.spawn_true();
    }
    CHECK(failure_in(s.request(base_of(4'000'000))) == failure{});
    REQUIRE(ipc::pidfd_signal(c.pidfd.get(), SIGUSR1) == 0);
    CHECK(s.await_exit(c.id).signal() == SIGUSR1);
    CHECK(daemon.log().find("handler_failed") != std::string::npos);
}

TEST_CASE("each allocation of a spawn in turn: what is told is true, and nobody is left") {
    if (!fault_library::can_be_used()) return;
    fault_library faults;
    test_daemon daemon({.environment = faults.environment()});
    raw_session neighbour(daemon);
    neighbour.spawn_true();
    test::fault& f = faults.of(faulty::allocation);
    int refused = 0;
    for (int nth = 1; nth <= 100; ++nth) {
        CAPTURE(nth);
        raw_session s(daemon);
        daemon.stop();
        const std::uint64_t request = s.post_spawn(program({"/bin/sleep", "infinity"}));
        faults.fail(faulty::allocation, ENOMEM, 1, -1, 0, nth - 1);
        daemon.signal(SIGCONT);
        refused += failure_in(s.reply_to(request)).step != step::none;
        s.close();
        f.left = 0;
        neighbour.stats_until([](const v1::StatsReply& now) { return now.children() == 0; });
    }
    CHECK(refused > 5);
    neighbour.spawn_true();
}

TEST_CASE("sessions within their quotas do not end a daemon whose memory is limited") {
    if (k_sanitized) {
        MESSAGE("not run: a sanitizer takes terabytes of addresses");
        return;
    }
    test_daemon daemon;
    raw_session neighbour(daemon);
    const live_child c = neighbour.spawn(sleeper());
    const auto status =
        ipc::read_file(AT_FDCWD, "/proc/" + std::to_string(daemon.pid()) + "/status");
    const auto used = ipc::to_number<rlim_t>(ipc::field(*status, "VmSize:")) * 1024;
    const rlimit tight{used + (rlim_t{24} << 20), used + (rlim_t{24} << 20)};
    REQUIRE(::prlimit(daemon.pid(), RLIMIT_AS, &tight, nullptr) == 0);
    std::size_t refused = 0;
    std::vector<raw_session> sessions;
    for (int i = 0; i < 3; ++i) {
        raw_session& s = sessions.emplace_back(daemon);
        for (const std::size_t size : {15'000'000, 10'000'000, 5'000'000}) {
            const failure f = failure_in(s.request(base_of(size)));
            refused += f.step != step::none;
            if (f.step != step::none) CHECK(f.error_number == ENOMEM);
        }
    }
    CHECK(refused > 0);
    sessions.clear();
    neighbour.spawn_true();
    REQUIRE(ipc::pidfd_signal(c.pidfd.get(), SIGUSR1) == 0);
    CHECK(neighbour.await_exit(c.id).signal() == SIGUSR1);
    CHECK(daemon.running());
}

TEST_CASE("a file size limit is no end of the daemon: its log does not grow, and it serves") {
    test_daemon daemon;
    raw_session neighbour(daemon);
    const rlimit none{0, 0};
    REQUIRE(::prlimit(daemon.pid(), RLIMIT_FSIZE, &none, nullptr) == 0);
    for (int i = 0; i < 3; ++i) raw_session(daemon).spawn_true();
    neighbour.spawn_true();
    CHECK(daemon.running());
    // The child's mask is not the daemon's.
    const live_child c =
        neighbour.spawn(shell("test \"$(sed -n 's/^SigBlk:[[:space:]]*//p' /proc/$$/status)\" = "
                              "0000000000000000"));
    CHECK(neighbour.await_exit(c.id).code() == 0);
}

TEST_CASE("a batch whose reply cannot be sent leaves no process that nobody knows of") {
    if (!fault_library::can_be_used()) return;
    fault_library faults;
    test_daemon daemon({.environment = faults.environment()});
    raw_session neighbour(daemon);
    raw_session s(daemon);
    v1::ClientMessage m;
    *m.mutable_batch()->add_items() = program({"/bin/sleep", "infinity"});
    // Their names make the reply larger than a packet.
    for (int i = 0; i < 60; ++i)
        *m.mutable_batch()->add_items() = program({"/" + std::string(4000, 'x')});
    faults.fail(faulty::memfd_create, EMFILE);
    const failure f = failure_in(s.request(std::move(m)));
    CHECK(faults.of(faulty::memfd_create).left == 0);
    CHECK(f.error_number == EMFILE);
    neighbour.stats_until([](const v1::StatsReply& now) { return now.children() == 0; });
    s.spawn_true();
}

TEST_CASE("where connections cannot be taken the daemon waits, and says so once") {
    if (!fault_library::can_be_used()) return;
    fault_library faults;
    test_daemon daemon({.environment = faults.environment()});
    raw_session neighbour(daemon);
    faults.fail(faulty::accept4, EPERM, 1 << 30);
    const raw_session waits(daemon.connect());
    const auto told = [&] { return daemon.log().find("accept_failed") != std::string::npos; };
    const auto give_up = std::chrono::steady_clock::now() + k_patience;
    while (!told() && std::chrono::steady_clock::now() < give_up) neighbour.stats();
    REQUIRE(told());
    // Rounds of the loop of the neighbour's, each of which would be one of a spinning listener's.
    const long before = faults.of(faulty::accept4).calls;
    for (int i = 0; i < 2000; ++i) neighbour.stats();
    CHECK(faults.of(faulty::accept4).calls - before < 1000);
    faults.of(faulty::accept4).left = 0;
    raw_session(daemon).spawn_true();
    const std::string log = daemon.log();
    CHECK(log.find("accept_failed") == log.rfind("accept_failed"));
}

TEST_CASE("a child that cannot be reaped is told as that, and not as one of a template") {
    const std::string real = daemon_path();
    ::setenv("CLEANFORK_DAEMON", helper_path("deny").c_str(), 1);
    // By pidfd (3) it fails with ECHILD (10), as when another had reaped it.
    test_daemon daemon({.args = {"--deny=waitid:arg0=3=10", "--program=" + real}});
    ::setenv("CLEANFORK_DAEMON", real.c_str(), 1);
    raw_session s(daemon);
    const live_child c = s.spawn(program({"/bin/true"}));
    const v1::Exit e = s.await_exit(c.id);
    CHECK(e.how_case() == v1::Exit::kUnknown);
    CHECK(e.unknown().find("waitid") != std::string::npos);
    CHECK(e.unknown().find("template") == std::string::npos);
}
