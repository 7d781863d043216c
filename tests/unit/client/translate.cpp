// Options as they go onto the wire.
#include "client/src/requests/translate.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <cleanfork/error.hpp>

#include "client/src/connection/writer.hpp"
#include "client/src/run/pipes.hpp"
#include "ipc/base/fd.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/defaults.hpp"

using namespace cleanfork;
using namespace cleanfork::detail;

namespace {

struct translated {
    v1::SpawnRequest request;
    descriptor_list descriptors;
    parent_ends ends;
    result<void> outcome;
    explicit translated(const spawn_options& o)
        : outcome(translate(o, request, descriptors, ends)) {}
    int source(int target) const {
        for (const auto& m : request.descriptors())
            if (m.target() == target) return descriptors.numbers()[m.source_descriptor() - 1];
        return -1;
    }
};

}  // namespace

TEST_CASE("a plain program asks for nothing but itself") {
    const translated t({.program = "sort", .args = {"-u"}});
    REQUIRE(t.outcome.has_value());
    CHECK(t.request.exec().search() == "sort");
    REQUIRE(t.request.exec().argv_size() == 2);
    CHECK(t.request.exec().argv(0) == "sort");
    CHECK(t.descriptors.numbers().empty());
    CHECK_FALSE(t.request.has_environment());
    CHECK_FALSE(t.request.has_umask());
    CHECK(spawn_options{.program = ""}.umask == ipc::k_default_umask);  // why it need not be said
    CHECK_FALSE(t.request.has_lifetime());
    CHECK(t.request.descriptors_size() == 0);  // 0, 1 and 2 are then /dev/null
}

TEST_CASE("a program with a slash is a path, and argv0 can differ") {
    const translated t({.program = "./x", .argv0 = "-x"});
    CHECK(t.request.exec().path() == "./x");
    CHECK(t.request.exec().argv(0) == "-x");
}

TEST_CASE("a program by descriptor is named after its file") {
    const unique_fd fd(::open("/bin/true", O_PATH | O_CLOEXEC));
    const translated t({.program = fd.get()});
    CHECK(t.request.exec().program_descriptor() == 1);
    CHECK(t.request.exec().argv(0).find("true") != std::string::npos);
}

TEST_CASE("one descriptor for several targets travels once") {
    const translated t({.program = "x",
                        .out = stdio::descriptor{1},
                        .err = stdio::to_stdout{},
                        .fds = {{1, 7}, {1, 9}},
                        .listen_fds = {{1, "web"}}});
    REQUIRE(t.outcome.has_value());
    CHECK(t.descriptors.numbers().size() == 1);
    CHECK(t.source(1) == 1);
    CHECK(t.source(2) == 1);
    CHECK(t.source(9) == 1);
    CHECK(t.request.listen_descriptors(0).source_descriptor() == 1);
}

TEST_CASE("standard error follows standard output to nowhere") {
    const translated t({.program = "x", .err = stdio::to_stdout{}});
    REQUIRE(t.outcome.has_value());
    CHECK(t.request.descriptors_size() == 0);
}

TEST_CASE("only standard error can follow standard output") {
    const translated t({.program = "x", .in = stdio::to_stdout{}});
    REQUIRE(t.outcome.has_error());
    CHECK(t.outcome.error().step == step::request);
}

TEST_CASE("pipes have the right direction, and are closed in a later exec") {
    const translated t({.program = "x", .in = stdio::pipe{}, .out = stdio::pipe{}});
    REQUIRE(t.outcome.has_value());
    REQUIRE(t.ends.in);
    REQUIRE(t.ends.out);
    CHECK_FALSE(t.ends.err);
    CHECK((::fcntl(t.ends.in.get(), F_GETFD) & FD_CLOEXEC) != 0);
    REQUIRE(::write(t.ends.in.get(), "a", 1) == 1);
    char c = 0;
    REQUIRE(::read(t.source(0), &c, 1) == 1);
    CHECK(c == 'a');
    REQUIRE(::write(t.source(1), "b", 1) == 1);
    REQUIRE(::read(t.ends.out.get(), &c, 1) == 1);
    CHECK(c == 'b');
}

TEST_CASE("a file that cannot be opened is named, and nothing stays open") {
    const std::size_t before = ipc::open_descriptor_count();
    {
        const translated t(
            {.program = "x", .in = stdio::pipe{}, .out = stdio::file{"/nowhere/at/all"}});
        REQUIRE(t.outcome.has_error());
        CHECK(t.outcome.error().error_number == ENOENT);
        CHECK(t.outcome.error().object == "/nowhere/at/all");
    }
    CHECK(ipc::open_descriptor_count() == before);
}

TEST_CASE("sixty-four descriptors fit, the sixty-fifth is refused with the limit") {
    spawn_options o{.program = "x"};
    for (int i = 0; i < 64; ++i) o.fds.push_back({100 + i, 3 + i});
    CHECK(translated(o).outcome.has_value());
    o.fds.push_back({200, 90});
    const translated t(o);
    REQUIRE(t.outcome.has_error());
    CHECK(t.outcome.error().error_number == E2BIG);
    CHECK(t.outcome.error().message().find("64") != std::string::npos);
}

TEST_CASE("a closed descriptor is found when it is sent, by its number") {
    auto pair = ipc::seqpacket_pair().value();
    writer w(pair.first.get());
    v1::ClientMessage m;
    m.set_request_id(1);
    const int numbers[] = {2, 987};
    const auto r = w.send(m, numbers);
    REQUIRE(r.has_error());
    CHECK(r.error().error_number == EBADF);
    CHECK(r.error().object == "987");
    const translated negative({.program = "x", .fds = {{-1, 5}}});
    REQUIRE(negative.outcome.has_error());
    CHECK(negative.outcome.error().error_number == EBADF);
}

TEST_CASE("every attribute is carried as the schema says") {
    const translated t({.program = "x",
                        .env = {.clear = true, .unset = {"A"}, .set = {{"B", "1"}, {"C", ""}}},
                        .cwd = "/tmp",
                        .umask = 077,
                        .group = {process_group::kind::session},
                        .controlling_terminal = 0,
                        .rlimits = {{RLIMIT_CPU, 5, RLIM_INFINITY}},
                        .nice = 0,
                        .cpus = {0, 3},
                        .sched = scheduling{SCHED_OTHER, 0},
                        .oom_score_adj = 0,
                        .uid = 0,
                        .gid = 0,
                        .groups = std::vector<gid_t>{},
                        .no_new_privs = true,
                        .parent_death_signal = SIGTERM,
                        .ignored_signals = {SIGHUP, SIGINT},
                        .cgroup = "/c",
                        .lifetime = {.keep = true}});
    REQUIRE(t.outcome.has_value());
    const v1::SpawnRequest& r = t.request;
    CHECK(r.environment().clear());
    CHECK(r.environment().set(1) == "C=");
    CHECK(r.cwd_path() == "/tmp");
    CHECK(r.umask() == 077);
    CHECK(r.process_group() == v1::PROCESS_GROUP_SESSION);
    CHECK(r.has_controlling_terminal());
    CHECK(r.rlimits(0).resource() == RLIMIT_CPU + 1);
    CHECK(r.rlimits(0).hard() == ~std::uint64_t{0});
    CHECK(r.has_nice());
    CHECK(r.cpus_size() == 2);
    CHECK(r.scheduling().policy() == SCHED_OTHER + 1);
    CHECK(r.has_oom_score_adj());
    CHECK(r.has_uid());
    CHECK(r.has_gid());
    CHECK(r.has_groups());
    CHECK(r.no_new_privs());
    CHECK(r.parent_death_signal() == SIGTERM);
    CHECK(r.ignored_signals(1) == SIGINT);
    CHECK(r.cgroup_path() == "/c");
    CHECK(r.lifetime().keep());
}

TEST_CASE("feeding a pipe nobody reads is an error, not a signal") {
    int fds[2];
    REQUIRE(::pipe2(fds, O_CLOEXEC) == 0);
    const unique_fd write_end(fds[1]);
    ::close(fds[0]);
    struct sigaction before {};
    ::sigaction(SIGPIPE, nullptr, &before);
    CHECK((before.sa_handler == SIG_DFL));
    CHECK(write_without_sigpipe(write_end.get(), "x", 1) == -1);
    CHECK(errno == EPIPE);
    sigset_t pending, blocked;
    ::sigpending(&pending);
    CHECK(sigismember(&pending, SIGPIPE) == 0);
    ::pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
    CHECK(sigismember(&blocked, SIGPIPE) == 0);
}
