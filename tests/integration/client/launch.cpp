// Private forkservers, and joining a listening one.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <filesystem>
#include <thread>

#include "tests/integration/client/client_support.hpp"

using namespace cleanfork;
using namespace cleanfork::test;

namespace {

std::string daemon_path() {
    const char* named = std::getenv("CLEANFORK_DAEMON");
    return named != nullptr ? named : CLEANFORK_BIN_DIR "/cleanforkd";
}

// A directory of the test's own, removed with it.
struct directory {
    std::string path;
    directory() {
        char name[] = "/var/tmp/cleanfork-test-XXXXXX";
        REQUIRE(::mkdtemp(name) != nullptr);
        path = name;
    }
    directory(const directory&) = delete;
    directory& operator=(const directory&) = delete;
    // A forkserver that ends removes its own socket at the same time.
    ~directory() {
        std::error_code raced;
        do std::filesystem::remove_all(path, raced);
        while (raced == std::errc::no_such_file_or_directory);
    }
};

// A datagram socket for sd_notify: the daemon says when it is ready.
struct readiness {
    unique_fd socket{::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
    std::string path;
    explicit readiness(const directory& d) : path(d.path + "/notify") {
        sockaddr_un a{};
        a.sun_family = AF_UNIX;
        path.copy(a.sun_path, sizeof a.sun_path - 1);
        REQUIRE(::bind(socket.get(), reinterpret_cast<sockaddr*>(&a), sizeof a) == 0);
    }
    void wait() const {
        char text[256];
        std::string said;
        while (said.find("READY=1") == std::string::npos) {
            const ssize_t n = ::recv(socket.get(), text, sizeof text, 0);
            REQUIRE(n > 0);
            said.assign(text, static_cast<std::size_t>(n));
        }
    }
};

// A listening forkserver, run as a child of a private one.
struct server {
    directory place;
    std::string path = place.path + "/socket";
    client keeper = launch();
    process daemon;
    server() {
        const readiness ready(place);
        daemon = keeper.spawn({.program = daemon_path(),
                               .args = {"--socket", path},
                               .err = stdio::inherit{},
                               .env = {.set = {{"NOTIFY_SOCKET", ready.path}}}});
        ready.wait();
    }
};

}  // namespace

TEST_CASE("launching leaves the program without a child, and its signals alone") {
    static volatile sig_atomic_t children = 0;
    struct sigaction counting {
    }, before{};
    counting.sa_handler = [](int) { children = children + 1; };
    ::sigaction(SIGCHLD, &counting, &before);
    {
        const client c = launch();
        CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);
        CHECK(errno == ECHILD);
        const int after_launch = children;
        CHECK(c.run({.program = "true"}).status.success());
        CHECK(children == after_launch);  // its children are not ours
        struct sigaction now {};
        ::sigaction(SIGCHLD, nullptr, &now);
        CHECK((now.sa_handler == counting.sa_handler));
    }
    ::sigaction(SIGCHLD, &before, nullptr);
}

TEST_CASE("ignoring SIGCHLD does not disturb a launch") {
    struct sigaction ignoring {
    }, before{};
    ignoring.sa_handler = SIG_IGN;
    ::sigaction(SIGCHLD, &ignoring, &before);
    CHECK(launch().run({.program = "true"}).status.success());
    ::sigaction(SIGCHLD, &before, nullptr);
}

TEST_CASE("a private forkserver has a session of its own, and ends with its client") {
    client c = launch();
    const pid_t pid = c.server().pid;
    CHECK(::getsid(pid) != ::getsid(0));
    CHECK(::getpgid(pid) != ::getpgrp());
    c = client();
    CHECK(ends(pid));
}

TEST_CASE("a private forkserver in the caller's session has a process group of its own") {
    const client c = launch({.share_session = true});
    const pid_t pid = c.server().pid;
    CHECK(::getsid(pid) == ::getsid(0));
    CHECK(::getpgid(pid) != ::getpgrp());
    const process p = c.spawn({.program = "sleep",
                               .args = {"infinity"},
                               .group = {process_group::kind::join, ::getpgrp()}});
    CHECK(::getpgid(p.id()) == ::getpgrp());
    p.signal(SIGKILL);
    CHECK(p.wait().signal() == SIGKILL);
}

TEST_CASE("a private forkserver holds none of the caller's descriptors") {
    int fds[2];
    REQUIRE(::pipe(fds) == 0);  // without CLOEXEC, as careless programs do
    const unique_fd read_end(fds[0]);
    unique_fd write_end(fds[1]);
    const client c = launch();
    write_end.reset();
    char x;
    CHECK(::read(read_end.get(), &x, 1) == 0);
}

TEST_CASE("it launches with standard streams closed, and logs where it is told") {
    directory d;
    const std::string log = d.path + "/log";
    const pid_t child = ::fork();  // single-threaded here: to close 0, 1 and 2 for the launch alone
    if (child == 0) {
        ::close(0);
        ::close(1);
        ::close(2);
        bool good = false;
        try {
            const int fd = ::open(log.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
            launch_options o;
            o.log_fd = fd;
            good = launch(o).run({.program = "true"}).status.success();
        } catch (const std::exception&) {
        }
        ::_exit(good ? 0 : 1);
    }
    int status = 1;
    ::waitpid(child, &status, 0);
    CHECK(status == 0);
    CHECK(std::filesystem::exists(log));
}

TEST_CASE("a daemon that is none is reported with what became of it") {
    launch_options o;
    const auto failed = [&] {
        try {
            (void)launch(o);
        } catch (const spawn_error& e) {
            return e.why();
        }
        return failure{};
    };
    o.daemon = "/no/such/cleanforkd";
    CHECK(failed().step == step::launch);
    CHECK(failed().error_number == ENOENT);
    o.daemon = "/bin/false";
    CHECK(failed().step == step::launch);
    CHECK(failed().detail.find("exited 1") != std::string::npos);
    o.daemon = "/bin/sh";
    o.daemon_args = {"-c", "x"};
    CHECK(failed().step == step::launch);
    CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);  // nothing stayed behind
}

TEST_CASE("a daemon that says nothing is given up, and ended") {
    directory d;
    const std::string script = d.path + "/mute";
    std::ofstream(script) << "#!/bin/sh\nexec sleep infinity\n";
    ::chmod(script.c_str(), 0700);
    launch_options o;
    o.daemon = script;
    o.timeout = 50ms;
    try {
        (void)launch(o);
        FAIL("launched");
    } catch (const spawn_error& e) {
        CHECK(e.step() == step::launch);
        CHECK(e.error_number() == ETIMEDOUT);
    }
    CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);
}

TEST_CASE("a daemon that is not found is reported with the places looked at") {
    const char* named = std::getenv("CLEANFORK_DAEMON");
    const std::string saved = named != nullptr ? named : "";
    ::setenv("CLEANFORK_DAEMON", "/no/such/daemon", 1);
    try {
        (void)launch();
        FAIL("launched");
    } catch (const spawn_error& e) {
        CHECK(e.step() == step::launch);
        CHECK(e.object() == "/no/such/daemon");
        CHECK(std::string(e.what()).find("CLEANFORK_DAEMON") != std::string::npos);
    }
    if (named != nullptr)
        ::setenv("CLEANFORK_DAEMON", saved.c_str(), 1);
    else
        ::unsetenv("CLEANFORK_DAEMON");
}

TEST_CASE("a variable too long for an exec concerns only the children that are to have it") {
    const client before = launch();
    ::setenv("CLEANFORK_TEST_LONG", std::string(200'000, 'x').c_str(), 1);
    const spawn_options small{.program = "true",
                              .env = environment::exactly({{"PATH", "/bin:/usr/bin"}})};
    const auto check = [&](const client& c) {
        CHECK(c.run(small).status.success());
        const auto r = c.try_run({.program = "true"});
        REQUIRE(r.has_error());
        CHECK(r.error().step == step::exec);
        CHECK(r.error().error_number == E2BIG);
        CHECK(
            c.run({.program = "true", .env = {.unset = {"CLEANFORK_TEST_LONG"}}}).status.success());
    };
    check(launch());
    check(attach(before.open_session()));
    before.update_base();
    check(before);
    ::unsetenv("CLEANFORK_TEST_LONG");
}

TEST_CASE("clients of one forkserver see each other's children, and wait for them") {
    const server s;
    const client a = connect({.path = s.path}), b = connect({.path = s.path});
    CHECK(a.server().instance == b.server().instance);
    CHECK(a.server().session != b.server().session);
    const process p = a.spawn({.program = "sleep", .args = {"infinity"}});
    const auto all = b.list();
    REQUIRE(all.size() == 1);
    CHECK(all[0].session == a.server().session);
    try {
        (void)b.wait(p.child_id(), 10ms);
        FAIL("it runs");
    } catch (const spawn_error& e) {
        CHECK(e.step() == step::wait);
        CHECK(e.error_number() == ETIMEDOUT);
    }
    std::thread killer([&] { b.signal(p.child_id(), SIGKILL); });
    CHECK(b.wait(p.child_id()).status.signal() == SIGKILL);
    killer.join();
    CHECK(p.wait().signal() == SIGKILL);
}

TEST_CASE("a kept child outlives its session, and any client can collect its status") {
    const server s;
    std::uint64_t child = 0;
    {
        const client a = connect({.path = s.path});
        child = a.spawn({.program = "sleep", .args = {"infinity"}, .lifetime = lifetime::kept()})
                    .child_id();
    }
    const client b = connect({.path = s.path});
    b.signal(child, SIGTERM);
    CHECK(b.wait(child).status.signal() == SIGTERM);
}

TEST_CASE("a client can shut its forkserver down, and everyone learns of it") {
    const server s;
    const client a = connect({.path = s.path}), b = connect({.path = s.path});
    const process p = b.spawn({.program = "sleep", .args = {"infinity"}});
    a.shutdown();
    CHECK(p.wait().signal() == SIGTERM);
    CHECK(s.daemon.wait().success());
    CHECK(b.try_spawn({.program = "true"}).has_error());
    CHECK_FALSE(b.connected());
}

TEST_CASE("connecting where nobody listens says what to do") {
    const directory d;
    try {
        (void)connect({.path = d.path + "/nobody"});
        FAIL("connected");
    } catch (const spawn_error& e) {
        CHECK(e.step() == step::connect);
        CHECK(e.error_number() == ENOENT);
        CHECK(std::string(e.what()).find("cleanfork serve") != std::string::npos);
    }
    CHECK_THROWS_AS(connect({.path = std::string(200, 'x')}), spawn_error);
}
