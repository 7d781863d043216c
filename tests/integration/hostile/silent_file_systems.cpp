// Programs and directories on a file system that does not answer, and descriptors of it.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cleanfork/client.hpp>
#include <cleanfork/connect.hpp>
#include <csignal>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "tests/helpers/lingering.hpp"
#include "tests/integration/hostile/hostile_session.hpp"
#include "tests/integration/hostile/silent_files.hpp"

using namespace cleanfork;
using namespace cleanfork::testing;

namespace {

bool skipped() {
    const std::string why = silent_files::missing();
    if (!why.empty()) MESSAGE("skipped: a file system that does not answer: " << why);
    return !why.empty();
}

constexpr std::uint64_t k_short_ns = 300'000'000;

v1::BirthInfo birth_in(raw_session& s) {
    for (;;) {
        const v1::ListReply l = s.list();
        if (l.births_size() != 0) return l.births(0);
    }
}

// What the command says of the daemon.
std::string output_of(const test_daemon& daemon, const std::string& command) {
    const std::string program = daemon_path();
    const std::string line = "CLEANFORK_SOCKET=" + daemon.socket() + " " +
                             program.substr(0, program.rfind('/')) + "/cleanfork " + command;
    FILE* const out = ::popen(line.c_str(), "re");
    REQUIRE(out != nullptr);
    std::string text;
    std::array<char, 4096> part{};
    while (const std::size_t n = std::fread(part.data(), 1, part.size(), out))
        text.append(part.data(), n);
    CHECK(::pclose(out) == 0);
    return text;
}

// Nobody of `files` any more, once they answer.
void expect_none(raw_session& s) {
    while (s.list().births_size() != 0) {
    }
}

}  // namespace

TEST_CASE("a program or a directory that does not answer keeps nobody else waiting") {
    if (skipped()) return;
    test_daemon daemon;
    raw_session neighbour(daemon), s(daemon);
    {
        const silent_files files;
        v1::SpawnRequest r = program({"/bin/true"});
        step expected = step::chdir;
        SUBCASE("the program") {
            r = program({files / "program"});
            expected = step::exec;
        }
        SUBCASE("the directory") { r.set_cwd_path(files.path()); }
        SUBCASE("a directory in its PATH") {
            r.mutable_exec()->set_search("true");
            r.mutable_environment()->add_set("PATH=" + files.path() + ":/bin");
            expected = step::exec;
        }
        r.set_queue_timeout_ns(k_short_ns);
        const std::uint64_t id = s.post_spawn(r);
        for (int i = 0; i < 20; ++i) neighbour.spawn_true();
        const v1::BirthInfo b = birth_in(neighbour);
        CHECK(static_cast<step>(b.step()) == expected);
        CHECK(b.pid() > 0);
        const failure f = failure_in(s.reply_to(id));
        CHECK(f.step == step::queue);
        CHECK(f.error_number == ETIMEDOUT);
        s.spawn_true();
    }
    expect_none(neighbour);
}

TEST_CASE("cleanfork ps shows a process that has not begun, and its step; stats the longest turn") {
    if (skipped()) return;
    test_daemon daemon;
    raw_session s(daemon);
    const silent_files files;
    (void)s.post_spawn(program({files / "program"}));
    const v1::BirthInfo b = birth_in(s);
    const std::string table = output_of(daemon, "ps");
    CHECK(table.find("beginning, in the step exec") != std::string::npos);
    CHECK(table.find(std::to_string(b.pid())) != std::string::npos);
    CHECK(output_of(daemon, "ps --json").find("\"begins-in\":\"exec\"") != std::string::npos);
    CHECK(output_of(daemon, "stats").find("longest turn") != std::string::npos);
}

TEST_CASE("a client takes replies in any order, and a batch has its results in that of its items") {
    if (skipped()) return;
    test_daemon daemon;
    raw_session neighbour(daemon);
    const client c = connect({.path = daemon.socket()});
    const auto runs_true = [&] { return c.run({.program = "/bin/true"}).status.code() == 0; };
    bool has_begun = true;
    std::vector<result<process>> all;
    std::thread spawns, batches;
    {
        const silent_files files;
        const std::string silent = files / "program";
        spawns = std::thread([&] { has_begun = c.try_spawn({.program = silent}).has_value(); });
        (void)birth_in(neighbour);
        CHECK(runs_true());
        batches = std::thread([&] {
            all = c.spawn_batch({{.program = silent}, {.program = "/bin/true"}});
        });
        while (neighbour.list().births_size() != 2) {
        }
        CHECK(runs_true());
    }
    spawns.join();
    batches.join();
    CHECK_FALSE(has_begun);
    REQUIRE(all.size() == 2);
    CHECK_FALSE(all[0].has_value());
    REQUIRE(all[1].has_value());
    CHECK(all[1]->wait().code() == 0);
}

TEST_CASE("a program that answers at last is run, and told as ever") {
    if (skipped()) return;
    test_daemon daemon;
    raw_session neighbour(daemon), s(daemon);
    std::uint64_t id = 0;
    {
        const silent_files files;
        id = s.post_spawn(program({files / "program"}));
        (void)birth_in(neighbour);
    }
    // Its server has gone, and the kernel says so, by one errno or another.
    const failure f = failure_in(s.reply_to(id));
    CHECK(f.step == step::exec);
    CHECK(f.error_number != 0);
    expect_none(neighbour);
}

TEST_CASE("a cancellation, the session's end and SIGTERM do not wait for what does not answer") {
    if (skipped()) return;
    test_daemon daemon;
    raw_session neighbour(daemon);
    const silent_files files;
    const v1::SpawnRequest r = program({files / "program"});
    {
        raw_session s(daemon);
        const std::uint64_t id = s.post_spawn(r);
        (void)birth_in(neighbour);
        v1::ClientMessage m;
        m.mutable_cancel()->set_request_id(id);
        REQUIRE(s.send(std::move(m)));
        CHECK(failure_in(s.reply_to(id)).error_number == ECANCELED);
        (void)s.post_spawn(r);
        (void)birth_in(neighbour);
    }
    neighbour.spawn_true();
    (void)neighbour.post_spawn(r);
    daemon.signal(SIGTERM);
    CHECK(neighbour.ends());
    CHECK(daemon.wait() == 0);
}

TEST_CASE("so many of a session may hang, then its spawns are refused, and nobody else's") {
    if (skipped()) return;
    test_daemon daemon;
    raw_session neighbour(daemon), s(daemon);
    const silent_files files;
    for (int i = 0; i < 16; ++i) (void)s.post_spawn(program({files / "program"}));
    failure refused;
    while (refused.step == step::none) {
        const v1::SpawnReply last = s.try_spawn(program({"/bin/true"}));
        if (last.has_failure()) refused = ipc::from_wire(last.failure());
    }
    CHECK(refused.step == step::quota);
    CHECK(refused.error_number == EBUSY);
    neighbour.spawn_true();
}

TEST_CASE("a cgroup that does not answer is none, and nobody asks it") {
    if (skipped()) return;
    test_daemon daemon;
    raw_session s(daemon);
    const silent_files files;
    v1::SpawnRequest r = program({"/bin/true"});
    SUBCASE("by its path") {
        r.set_cgroup_path(files.path());
        const failure f = s.spawn_failure(r);
        CHECK(f.step == step::cgroup);
        CHECK(f.error_number == EBADF);
    }
    SUBCASE("by its descriptor") {
        r.set_cgroup_descriptor(1);
        const unique_fd directory(::open(files.path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
        REQUIRE(directory);
        v1::ClientMessage m;
        *m.mutable_spawn() = r;
        m.add_descriptors(v1::DESCRIPTOR_PURPOSE_CGROUP);
        const int fd = directory.get();
        const failure f = failure_in(s.request(std::move(m), {&fd, 1}));
        CHECK(f.step == step::cgroup);
        CHECK(f.error_number == EBADF);
    }
}

// ---- descriptors whose every close asks a server that does not answer -------------------

namespace {

// Of this process: its own closes ask as well, so it goes when there is nobody to ask.
unique_fd open_slow(const silent_files& files) {
    unique_fd fd(::open((files / "slow").c_str(), O_RDWR | O_CLOEXEC));
    REQUIRE(fd);
    return fd;
}

v1::SpawnRequest with_target(v1::SpawnRequest r, int target) {
    map_descriptor(r, 1, target);
    return r;
}

// A request that is refused: its descriptor is the forkserver's to close.
failure refused_with(raw_session& s, int fd) {
    return failure_in(s.reply_to(s.post_spawn(with_target(program({"/bin/true"}), -1), {&fd, 1})));
}

}  // namespace

TEST_CASE("files of a server that does not answer, and sockets that linger, keep nobody waiting") {
    if (skipped()) return;
    test_daemon daemon;
    raw_session neighbour(daemon), a(daemon), b(daemon), c(daemon);
    const unique_fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const int its_own = null.get();
    neighbour.spawn_true();
    const std::uint64_t before = neighbour.stats().descriptors();
    unique_fd slow;
    std::vector<testing::lingering> sockets(3);
    {
        const silent_files files;
        slow = open_slow(files);
        // One that is begun and does not get on: its descriptor stays with the forkserver.
        const int fd = slow.get();
        (void)c.post_spawn(with_target(program({files / "program"}), 9), {&fd, 1});
        (void)birth_in(neighbour);
        for (testing::lingering& socket : sockets) {
            CHECK(refused_with(a, slow.get()).step == step::request);
            (void)b.post_spawn(with_target(program({"/bin/true"}), -1), std::array{socket.get()});
            socket.forget();
            neighbour.spawn_true();
            const auto child =
                neighbour.spawn(with_target(program({"/bin/true"}), 9), {&its_own, 1});
            CHECK(neighbour.await_exit(child.id).code() == 0);
            neighbour.acknowledge({child.id});
        }
        c.close();
    }
    neighbour.stats_until([&](const v1::StatsReply& r) { return r.descriptors() + 1 == before; });
}

TEST_CASE("so many closes may hang, then requests with descriptors are refused, and no others") {
    if (skipped()) return;
    test_daemon daemon;
    raw_session neighbour(daemon), s(daemon);
    unique_fd slow;
    const unique_fd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const int harmless = null.get();
    {
        const silent_files files;
        slow = open_slow(files);
        for (int i = 0; i < 9; ++i) CHECK(refused_with(s, slow.get()).step == step::request);
        failure refused;
        while (refused.step != step::quota) refused = refused_with(neighbour, harmless);
        CHECK(refused.error_number == EBUSY);
        neighbour.spawn_true();
    }
    while (refused_with(neighbour, harmless).step == step::quota) {
    }
}

TEST_CASE("a forkserver ends, and its clients learn of it, though a close of its hangs") {
    if (skipped()) return;
    test_daemon daemon;
    raw_session neighbour(daemon), s(daemon);
    unique_fd slow;
    const silent_files files;
    slow = open_slow(files);
    CHECK(refused_with(s, slow.get()).step == step::request);
    neighbour.spawn_true();
    daemon.signal(SIGTERM);
    CHECK(neighbour.ends());
    CHECK(daemon.wait() == 0);
}
