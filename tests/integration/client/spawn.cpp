// Spawning programs through a real forkserver, blocking.
#include <fcntl.h>

#include "ipc/base/fd.hpp"
#include "tests/integration/client/client_support.hpp"

using namespace cleanfork;
using namespace cleanfork::test;

TEST_CASE("a program runs, and its code, usage and wall time come back") {
    const client c = launch();
    const process p = c.spawn(shell("exit 3"));
    CHECK(p.id() > 0);
    CHECK(p.child_id() > 0);
    CHECK(p.native_handle() >= 0);
    CHECK(p.wait() == exit_status::exited(3));
    CHECK(p.wait().code() == 3);  // as often as one likes
    CHECK_FALSE(p.running());
    CHECK(p.usage().max_rss_kib > 0);
    CHECK(p.wall_time() > 0ns);
}

TEST_CASE("a program that dies of a signal is told by its signal") {
    const client c = launch();
    const process p = c.spawn({.program = "sleep", .args = {"infinity"}});
    CHECK(p.running());
    CHECK_FALSE(p.status());
    CHECK_FALSE(p.wait_for(1ms));
    p.request_exit();
    CHECK(p.wait() == exit_status::signaled(SIGTERM, false));
    boost::system::error_code ec;
    p.signal(SIGTERM, ec);
    CHECK(ec == boost::system::errc::no_such_process);
}

TEST_CASE("no such program, no such directory and no permission are told apart") {
    const client c = launch();
    const auto failed = [&](const spawn_options& o) {
        const auto r = c.try_spawn(o);
        REQUIRE(r.has_error());
        return r.error();
    };
    failure f = failed({.program = "no-such-program-here"});
    CHECK(f.step == step::exec);
    CHECK(f.error_number == ENOENT);
    CHECK(f.object == "no-such-program-here");
    f = failed({.program = "/bin/true", .cwd = "/no/such/directory"});
    CHECK(f.step == step::chdir);
    CHECK(f.error_number == ENOENT);
    CHECK(f.object == "/no/such/directory");
    f = failed({.program = "/etc/passwd"});
    CHECK(f.step == step::exec);
    CHECK(f.error_number == EACCES);
    f = failed({.program = "/bin/true", .fds = {{987, 5}}});
    CHECK(f.step == step::request);
    CHECK(f.error_number == EBADF);
    CHECK(f.object == "987");
    CHECK_THROWS_AS(c.spawn({.program = "no-such-program-here"}), spawn_error);
    boost::system::error_code ec;
    CHECK_FALSE(c.spawn({.program = "no-such-program-here"}, ec).valid());
    CHECK(ec == boost::system::errc::no_such_file_or_directory);
    CHECK(c.spawn({.program = "/bin/true"}, ec).wait().success());  // the client is fine
    CHECK_FALSE(ec);
}

TEST_CASE("a batch has a result for each item, in order, failures among them") {
    const client c = launch();
    std::vector<spawn_options> items;
    for (int i = 0; i < 20; ++i) items.push_back(shell("exit " + std::to_string(i)));
    items[5] = {.program = "no-such-program-here"};
    items[7] = {.program = "x", .out = stdio::file{"/no/such/file"}};
    const auto all = c.spawn_batch(items);
    REQUIRE(all.size() == items.size());
    for (int i = 0; i < 20; ++i) {
        const auto& r = all[static_cast<std::size_t>(i)];
        if (i == 5) CHECK(r.error().step == step::exec);
        if (i == 7) CHECK(r.error().step == step::request);
        if (i != 5 && i != 7) CHECK(r->wait().code() == i);
    }
    CHECK(c.spawn_batch({}).empty());
    items.assign(65, spawn_options{.program = "true"});
    CHECK_THROWS_AS(c.spawn_batch(items), spawn_error);
}

TEST_CASE("pipes connect the caller with the child") {
    const client c = launch();
    process p = c.spawn({.program = "tr",
                         .args = {"a-z", "A-Z"},
                         .in = stdio::pipe{},
                         .out = stdio::pipe{},
                         .err = stdio::to_stdout{}});
    unique_fd in = p.take_in();
    CHECK(p.in() == -1);
    REQUIRE(::write(in.get(), "hello", 5) == 5);
    in.reset();  // the child sees the end: nobody else holds it
    char text[16];
    CHECK(::read(p.out(), text, sizeof text) == 5);
    CHECK(std::string(text, 5) == "HELLO");
    CHECK(::read(p.out(), text, sizeof text) == 0);
    CHECK(p.wait().success());
}

TEST_CASE("ten MiB go through cat, both ways, in one run") {
    const client c = launch();
    std::string data(10 << 20, '\0');
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 31 + i / 997);
    const run_result r = c.run({.program = "cat", .in = stdio::pipe{}, .out = stdio::pipe{}}, data);
    CHECK(r.status.success());
    CHECK((r.out == data));
}

TEST_CASE("a run gathers both outputs and the status, also of a short-lived child") {
    const client c = launch();
    spawn_options o = shell("echo out; echo err >&2; exit 9");
    o.out = o.err = stdio::pipe{};
    const run_result r = c.run(o);
    CHECK(r.out == "out\n");
    CHECK(r.err == "err\n");
    CHECK(r.status.code() == 9);
    CHECK(r.pid > 0);
    CHECK(c.run({.program = "true"}).status.success());
    CHECK(c.try_run({.program = "no-such-program-here"}).error().step == step::exec);
    CHECK(c.try_run({.program = "true"}, "input").error().step == step::request);
}

TEST_CASE("input that the child does not want is no error") {
    const client c = launch();
    const std::string data(1 << 20, 'x');
    CHECK(c.run({.program = "true", .in = stdio::pipe{}}, data).status.success());
    spawn_options o = shell("exec <&-; sleep 0.05; exit 4");
    o.in = stdio::pipe{};
    CHECK(c.run(o, data).status.code() == 4);
}

TEST_CASE("a descendant that keeps the pipe open does not hold a run") {
    const client c = launch();
    spawn_options o = shell("echo done; sleep infinity & exit 0");
    o.out = stdio::pipe{};
    // The end of the session ends the descendant.
    o.lifetime = {.signal = SIGKILL, .grace = 0ms, .target = signal_target::group};
    const auto r = c.try_run(o, {}, k_patience);
    REQUIRE(r.has_value());
    CHECK(r->out == "done\n");
}

TEST_CASE("a run that takes too long is killed with its process group") {
    const client c = launch();
    spawn_options o = shell("sleep infinity & echo $!; wait");
    o.out = stdio::pipe{};
    int fds[2];
    REQUIRE(::pipe2(fds, O_CLOEXEC) == 0);
    const unique_fd read_end(fds[0]);
    unique_fd write_end(fds[1]);
    o.fds = {{write_end.get(), 9}};
    const auto r = c.try_run(o, {}, scaled(100ms));
    REQUIRE(r.has_error());
    CHECK(r.error().step == step::wait);
    CHECK(r.error().error_number == ETIMEDOUT);
    write_end.reset();
    // 9 is held by the shell and by its sleep: both are gone when it ends.
    char x;
    CHECK(::read(read_end.get(), &x, 1) == 0);
}

TEST_CASE("children of a destroyed client end, unless they are kept") {
    client c = launch();
    const process mortal = c.spawn({.program = "sleep", .args = {"infinity"}});
    const process stubborn =
        c.spawn({.program = "sh",
                 .args = {"-c", "trap '' TERM; echo; while :; do sleep 1; done"},
                 .out = stdio::pipe{},
                 .lifetime = {.grace = 50ms}});
    char x;
    REQUIRE(::read(stubborn.out(), &x, 1) == 1);  // the trap is set
    c = client();
    CHECK(ends(mortal.id()));
    CHECK(ends(stubborn.id()));
}

TEST_CASE("the list and the statistics show the children") {
    const client c = launch();
    const process p = c.spawn({.program = "sleep", .args = {"77"}});
    const auto all = c.list();
    REQUIRE(all.size() == 1);
    CHECK(all[0].child == p.child_id());
    CHECK(all[0].pid == p.id());
    CHECK(all[0].command == "sleep 77");
    CHECK_FALSE(all[0].status);
    const server_stats s = c.stats();
    CHECK(s.children == 1);
    CHECK(s.spawned_total == 1);
    CHECK(s.instance == c.server().instance);
    c.signal(p.child_id(), SIGKILL);
    CHECK(p.wait().signal() == SIGKILL);
    CHECK(c.list().empty());  // the request carries the acknowledgement
    CHECK(c.stats().statuses == 0);
    CHECK_THROWS_AS(c.signal(p.child_id(), SIGKILL), spawn_error);
}

TEST_CASE("signals reach the process group through the forkserver") {
    const client c = launch();
    const process p = c.spawn(
        {.program = "sh", .args = {"-c", "sleep infinity & echo $!; wait"}, .out = stdio::pipe{}});
    char text[32];
    const ssize_t n = ::read(p.out(), text, sizeof text);
    REQUIRE(n > 0);
    const pid_t inner = std::atoi(std::string(text, static_cast<std::size_t>(n)).c_str());
    p.signal_group(SIGTERM);
    CHECK(p.wait().signal() == SIGTERM);
    CHECK(ends(inner));
}

TEST_CASE("the base of a session follows the caller only when asked") {
    const client c = launch();
    spawn_options o = shell("echo $CLEANFORK_TEST_BASE; pwd");
    o.out = stdio::pipe{};
    ::setenv("CLEANFORK_TEST_BASE", "new", 1);
    CHECK(c.run(o).out.substr(0, 1) == "\n");
    c.update_base();
    CHECK(c.run(o).out.substr(0, 4) == "new\n");
    ::unsetenv("CLEANFORK_TEST_BASE");
    o.cwd = "/usr";
    CHECK(c.run(o).out == "new\n/usr\n");
}

TEST_CASE("a thousand spawns, failures among them, leave no descriptor behind") {
    const client c = launch();
    c.run({.program = "true"});
    const std::size_t ours = ipc::open_descriptor_count(), theirs = c.stats().descriptors;
    for (int i = 0; i < 250; ++i) {
        c.spawn({.program = "true", .in = stdio::pipe{}, .out = stdio::pipe{}}).wait();
        c.run({.program = "true", .out = stdio::pipe{}});
        (void)c.try_spawn({.program = "/nowhere", .err = stdio::pipe{}});
        (void)c.try_spawn({.program = "true", .cwd = "/nowhere"});
    }
    CHECK(ipc::open_descriptor_count() == ours);
    CHECK(c.stats().descriptors == theirs);
    CHECK(c.stats().children == 0);
}
