// The listening daemon: who may connect, how it is told to end, what it says about itself.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <fstream>
#include <regex>
#include <sstream>

#include "ipc/base/process_ref.hpp"
#include "tests/integration/lifetimes/lifetimes_support.hpp"

using namespace cleanfork;
using namespace cleanfork::testing;

namespace {

bool exists(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

}  // namespace

TEST_CASE("the socket has mode 0600, its directory 0700, and both are ours") {
    const scratch_directory parent;
    const std::string directory = parent / "made";
    const notify_socket notify;
    program_options options{.args = {"--socket", directory + "/socket"}};
    options.environment = {notify.variable()};
    const started d = start_daemon(options);
    REQUIRE(notify.receive(d.pidfd.get()) == "READY=1");
    struct stat st {};
    REQUIRE(::stat(directory.c_str(), &st) == 0);
    CHECK((st.st_mode & 07777) == 0700);
    REQUIRE(::lstat((directory + "/socket").c_str(), &st) == 0);
    CHECK(S_ISSOCK(st.st_mode));
    CHECK((st.st_mode & 07777) == 0600);
    CHECK(st.st_uid == ::geteuid());
    REQUIRE(::lstat((directory + "/socket.lock").c_str(), &st) == 0);
    CHECK((st.st_mode & 07777) == 0600);
    ipc::pidfd_signal(d.pidfd.get(), SIGTERM);
    CHECK(reap(d) == 0);
    CHECK_FALSE(exists(directory + "/socket"));
}

TEST_CASE("an old forkserver leaves the socket of its successor alone") {
    const scratch_directory scratch;
    const std::string path = scratch / "socket";
    const notify_socket notify;
    program_options options{.args = {"--socket", path}};
    options.environment = {notify.variable()};
    const started first = start_daemon(options);
    REQUIRE(notify.receive(first.pidfd.get()) == "READY=1");
    // As a cleaner of temporary files does.
    REQUIRE(::unlink(path.c_str()) == 0);
    REQUIRE(::unlink((path + ".lock").c_str()) == 0);
    const started second = start_daemon(options);
    REQUIRE(notify.receive(second.pidfd.get()) == "READY=1");
    ipc::pidfd_signal(first.pidfd.get(), SIGTERM);
    CHECK(reap(first) == 0);
    CHECK(exists(path));
    ipc::pidfd_signal(second.pidfd.get(), SIGTERM);
    CHECK(reap(second) == 0);
    CHECK_FALSE(exists(path));
}

TEST_CASE("without --socket it is where the user's runtime directory is") {
    const scratch_directory runtime;
    const notify_socket notify;
    program_options options;
    options.environment = {notify.variable()};
    std::string expected;
    SUBCASE("XDG_RUNTIME_DIR") {
        options.environment.push_back("XDG_RUNTIME_DIR=" + runtime.path());
        expected = runtime / "cleanfork/socket";
    }
    SUBCASE("CLEANFORK_SOCKET") {
        expected = runtime / "elsewhere";
        options.environment.push_back("CLEANFORK_SOCKET=" + expected);
    }
    const started d = start_daemon(options);
    REQUIRE(notify.receive(d.pidfd.get()) == "READY=1");
    CHECK(exists(expected));
    ipc::pidfd_signal(d.pidfd.get(), SIGTERM);
    CHECK(reap(d) == 0);
}

TEST_CASE("a directory that others could write to, or that is another's, is refused") {
    const scratch_directory scratch;
    const std::string directory = scratch / "d";
    REQUIRE(::mkdir(directory.c_str(), 0700) == 0);
    std::string why;
    SUBCASE("world-writable") {
        REQUIRE(::chmod(directory.c_str(), 0777) == 0);
        why = "others may write";
    }
    SUBCASE("world-writable and sticky, like /tmp") {
        REQUIRE(::chmod(directory.c_str(), 01777) == 0);
        why = "others may write";
    }
    SUBCASE("writable by its group") {
        REQUIRE(::chmod(directory.c_str(), 0770) == 0);
        why = "others may write";
    }
    SUBCASE("of another user") {
        if (::geteuid() != 0) return;
        REQUIRE(::chown(directory.c_str(), 61'002, 61'002) == 0);
        why = "another user";
    }
    const ended e = run_daemon({.args = {"--socket", directory + "/socket"}});
    CHECK(e.status == W_EXITCODE(1, 0));
    CHECK(e.text.find(why) != std::string::npos);
    CHECK(e.text.find(directory) != std::string::npos);
    CHECK_FALSE(exists(directory + "/socket"));
    CHECK_FALSE(exists(directory + "/socket.lock"));
}

TEST_CASE("a path that cannot be one is refused with the reason") {
    const scratch_directory scratch;
    std::string path;
    std::string why;
    SUBCASE("too long for an address") {
        path = scratch / std::string(108, 'x');
        why = "ENAMETOOLONG";
    }
    SUBCASE("without a directory") {
        path = "socket";
        why = "DIRECTORY/NAME";
    }
    SUBCASE("a directory") {
        path = scratch.path() + "/";
        why = "DIRECTORY/NAME";
    }
    SUBCASE("below a directory that is missing") {
        path = scratch / "a/b/socket";
        why = "ENOENT";
    }
    SUBCASE("below a file") {
        ::close(::open((scratch / "file").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
        path = scratch / "file/socket";
        why = "ENOTDIR";
    }
    SUBCASE("with a lock that is a link to elsewhere") {
        REQUIRE(::symlink("/etc/passwd", (scratch / "socket.lock").c_str()) == 0);
        path = scratch / "socket";
        why = "ELOOP";
    }
    const ended e = run_daemon({.args = {"--socket", path}});
    CHECK(e.status == W_EXITCODE(1, 0));
    CHECK_MESSAGE(e.text.find(why) != std::string::npos, e.text);
}

TEST_CASE("a peer of another user is told so, and gets nothing") {
    if (::geteuid() != 0) {
        MESSAGE("not run: only root can connect as another user");
        return;
    }
    test_daemon daemon({.activated = true});
    raw_session ours(daemon);
    raw_session foreign(daemon.connect_as(61'003));
    CHECK(foreign.ends());
    CHECK(foreign.last_failure.step == step::hello);
    CHECK(foreign.last_failure.error_number == EPERM);
    CHECK(foreign.last_failure.object == "uid 61003");
    ours.spawn_true();
    CHECK(ours.stats().sessions() == 1);
    CHECK(daemon.log().find("event=session_refused uid=61003") != std::string::npos);
}

TEST_CASE("root is another user too for a daemon that is not root") {
    if (::geteuid() != 0) return;
    test_daemon daemon({.uid = 61'004});
    raw_session foreign(daemon.connect_as(0));
    CHECK(foreign.ends());
    CHECK(foreign.last_failure.error_number == EPERM);
}

TEST_CASE("SIGTERM or SIGINT: no more connections, the children's lifetimes, the socket removed") {
    int number = 0;
    SUBCASE("SIGTERM") { number = SIGTERM; }
    SUBCASE("SIGINT") { number = SIGINT; }
    test_daemon daemon;
    raw_session s(daemon);
    telling_child c = spawn_telling(s, {"ignore"}, ends_with(SIGTERM, k_short_ms));
    daemon.signal(number);
    CHECK(daemon.notifications().receive(daemon.pidfd()) == "STOPPING=1");
    CHECK(c.lines.next() == "TERM");
    CHECK_FALSE(exists(daemon.socket()));
    // Those who are connected are served until the end.
    CHECK(s.stats().children() == 1);
    CHECK(s.spawn_failure(sleeper()).step == step::shutdown);
    CHECK(s.await_exit(c.child.id).signal() == SIGKILL);
    CHECK(daemon.wait() == 0);
    CHECK(s.ends());
}

TEST_CASE("SIGHUP and SIGPIPE are no reason to end") {
    test_daemon daemon;
    raw_session s(daemon);
    daemon.signal(SIGHUP);
    daemon.signal(SIGPIPE);
    s.spawn_true();
}

TEST_CASE("descriptors the daemon was started with are closed") {
    std::uint64_t usual = 0;
    {
        test_daemon daemon;
        usual = raw_session(daemon).stats().descriptors();
    }
    std::vector<unique_fd> strays;
    for (int i = 0; i < 50; ++i) strays.emplace_back(::open("/dev/null", O_RDONLY));
    test_daemon daemon;
    CHECK(raw_session(daemon).stats().descriptors() == usual);
}

TEST_CASE("every log line is time, level, event and pairs, and none tells a secret") {
    test_daemon daemon({.args = {"--log-level", "debug"}});
    {
        raw_session s(daemon);
        v1::SpawnRequest r = program({"/bin/true", "an-argument-to-keep"});
        r.mutable_environment()->add_set("TOKEN=a-value-to-keep");
        s.await_exit(s.spawn(r).id);
        s.spawn_failure(program({"/no/such program\nlevel=error event=forged"}));
        REQUIRE(s.send_bytes("nonsense") == 0);
        CHECK(s.ends());
    }
    daemon.signal(SIGTERM);
    CHECK(daemon.wait() == 0);
    const std::string log = daemon.log();
    const std::regex line_form(
        R"(time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=(debug|info|warning|error) event=\w+)"
        R"(( \w+=("([^"\\]|\\.)*"|[^ "=\\]+))*)");
    std::istringstream lines(log);
    int count = 0;
    for (std::string line; std::getline(lines, line); ++count)
        CHECK_MESSAGE(std::regex_match(line, line_form), line);
    CHECK(count >= 6);
    CHECK(log.find("event=spawned") != std::string::npos);
    CHECK(log.find("event=session_ended") != std::string::npos);
    CHECK(log.find("to-keep") == std::string::npos);
}

TEST_CASE("a reader of the log who does not read never blocks the daemon") {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    const unique_fd out(ends[0]), in(ends[1]);
    const scratch_directory directory;
    const notify_socket notify;
    program_options options{.args = {"--socket", directory / "socket", "--log-level", "debug"}};
    options.environment = {notify.variable()};
    options.standard_error = in.get();
    const started d = start_daemon(options);
    REQUIRE(notify.receive(d.pidfd.get()) == "READY=1");
    raw_session s(connect_to(directory / "socket"));
    s.hello();
    for (int i = 0; i < 1000; ++i) s.spawn_true();
    ipc::pidfd_signal(d.pidfd.get(), SIGTERM);
    CHECK(reap(d) == 0);
}

TEST_CASE("wrong options are refused with status 2, and a wrong descriptor is named") {
    CHECK(run_daemon({.args = {"--no-such-option"}}).status == W_EXITCODE(2, 0));
    CHECK(run_daemon({.args = {"--max-sessions", "0"}}).status == W_EXITCODE(2, 0));
    CHECK(run_daemon({.args = {"--max-children", "-1"}}).status == W_EXITCODE(2, 0));
    CHECK(run_daemon({.args = {"--log-level", "loud"}}).status == W_EXITCODE(2, 0));
    CHECK(run_daemon({.args = {"--private-fd", "77"}}).text.find("private-fd 77") !=
          std::string::npos);
}

TEST_CASE("a file that is no socket is not replaced by one") {
    const scratch_directory scratch;
    const std::string path = scratch / "precious";
    std::ofstream(path) << "words";
    const ended e = run_daemon({.args = {"--socket", path}});
    CHECK(WEXITSTATUS(e.status) == 1);
    CHECK(e.text.find("File exists") != std::string::npos);
    std::string words;
    std::ifstream(path) >> words;
    CHECK(words == "words");
}

TEST_CASE("a start that fails leaves no socket behind") {
    if (k_sanitized) {
        MESSAGE("not run: a sanitizer's runtime ends what has no descriptor left for it");
        return;
    }
    const scratch_directory scratch;
    const std::string path = scratch / "socket";
    // Enough to bind it, and no more.
    const ended e = run_daemon({.args = {"--socket", path}, .descriptors = 6});
    CHECK(WEXITSTATUS(e.status) == 1);
    CHECK(e.text.find("Too many open files") != std::string::npos);
    CHECK_FALSE(exists(path));
    CHECK(exists(path + ".lock"));
}
