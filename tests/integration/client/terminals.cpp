// Children at a pseudo terminal: stdio::pty with real programs.
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/use_future.hpp>
#include <cleanfork/pseudo_terminal.hpp>

#include "ipc/base/fd.hpp"
#include "tests/integration/client/client_support.hpp"

using namespace cleanfork;
using namespace cleanfork::test;

namespace {

spawn_options at_terminal(spawn_options o, const stdio::pty& settings = {}) {
    o.in = o.out = o.err = settings;
    return o;
}

// What comes from the terminal up to and with `word`; without one, all up to the end.
std::string read_to(int fd, const std::string& word = {}) {
    std::string text;
    char buffer[4096];
    while (word.empty() || text.find(word) == std::string::npos) {
        pollfd p{fd, POLLIN, 0};
        if (::poll(&p, 1, k_patience_ms) <= 0) return text + " ... and nothing more";
        const ssize_t n = ::read(fd, buffer, sizeof buffer);
        if (n < 0 && errno == EIO) return text;  // the end
        REQUIRE(n >= 0);
        if (n == 0) return text;  // of a pipe
        text.append(buffer, static_cast<std::size_t>(n));
    }
    return text;
}

void type(int master, const std::string& text) {
    REQUIRE(::write(master, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
}

failure why_not(const client& c, const spawn_options& o) {
    const auto r = c.try_spawn(o);
    REQUIRE(r.has_error());
    return r.error();
}

}  // namespace

TEST_CASE("a child at a pty has the size, a terminal of its own and a session that it leads") {
    const client c = launch();
    const process p = c.spawn(at_terminal(
        shell("stty size; tty; ps -o pid=,sid=,pgid=,tpgid= -p $$"), {.rows = 33, .columns = 101}));
    const std::string text = read_to(p.pty());
    CHECK(text.starts_with("33 101\r\n/dev/pts/"));
    std::istringstream words(text.substr(text.find('\n', text.find("/dev/pts")) + 1));
    for (int i = 0; i < 4; ++i) {
        pid_t number = 0;
        words >> number;
        CHECK(number == p.id());
    }
    CHECK(p.wait().code() == 0);
    CHECK(p.in() == -1);
    CHECK(p.out() == -1);
}

TEST_CASE("only the streams that ask for the pty have it, and standard error may follow") {
    const client c = launch();
    const std::string script = "for n in 0 1 2; do test -t $n && echo $n >&2; done; true";
    spawn_options o = shell(script);
    o.out = stdio::pty{};
    o.err = stdio::to_stdout{};
    process p = c.spawn(o);
    CHECK(read_to(p.pty()) == "1\r\n2\r\n");
    o = shell(script);
    o.in = stdio::pty{};
    o.err = stdio::pipe{};
    p = c.spawn(o);
    CHECK(read_to(p.err()) == "0\n");
    // /dev/tty is there whatever the streams are.
    o = shell("echo hello >/dev/tty");
    o.in = stdio::pty{};
    CHECK(read_to(c.spawn(o).pty()) == "hello\r\n");
}

TEST_CASE("a new size reaches the child as SIGWINCH") {
    const client c = launch();
    process p = c.spawn(at_terminal(
        {.program = "/bin/bash",
         .args = {"-c",
                  "trap 'stty size; exit 4' WINCH; echo ready; while :; do read -t 1; done"}}));
    read_to(p.pty(), "ready");
    p.resize(50, 132);
    CHECK(read_to(p.pty(), "132").find("50 132") != std::string::npos);
    CHECK(p.wait().code() == 4);
    boost::system::error_code ec;
    const unique_fd master = p.take_pty();
    p.resize(1, 2, ec);
    CHECK(errno_of(ec) == EBADF);
    CHECK_THROWS_AS(p.resize(1, 2), spawn_error);
    CHECK(resize_pty(master.get(), 1, 2).has_value());
    const unique_fd file(::open("/dev/null", O_RDWR | O_CLOEXEC));
    CHECK(resize_pty(file.get(), 1, 2).error().error_number == ENOTTY);
}

TEST_CASE("Ctrl-C interrupts the foreground group, and closing the master hangs up") {
    const client c = launch();
    process p = c.spawn(at_terminal(shell("echo ready; sleep infinity | sleep infinity")));
    read_to(p.pty(), "ready");
    type(p.pty(), "\x03");
    CHECK(p.wait() == exit_status::signaled(SIGINT, false));
    p = c.spawn(at_terminal(shell("trap 'exit 9' HUP; echo ready; while :; do read x; done")));
    read_to(p.pty(), "ready");
    p.take_pty().reset();
    CHECK(p.wait().code() == 9);
}

TEST_CASE("an interactive shell controls its jobs") {
    const client c = launch();
    const process p = c.spawn(
        at_terminal({.program = "/bin/bash",
                     .args = {"--norc", "-i"},
                     .env = environment::exactly({{"PS1", "prompt> "}, {"PATH", "/usr/bin:/bin"}})},
                    {.echo = false}));
    CHECK(read_to(p.pty(), "prompt> ").find("no job control") == std::string::npos);
    type(p.pty(), "sh -c 'echo running; exec sleep 1000'\n");
    read_to(p.pty(), "running");
    type(p.pty(), "\x1a");  // Ctrl-Z
    CHECK(read_to(p.pty(), "Stopped").find("Stopped") != std::string::npos);
    type(p.pty(), "kill %1; fg\n");
    read_to(p.pty(), "Terminated");
    type(p.pty(), "exit 5\n");
    CHECK(p.wait().code() == 5);
}

TEST_CASE("what is typed is read back, or is not; raw bytes pass as they are") {
    const client c = launch();
    process p = c.spawn(at_terminal(shell("read x; echo got $x")));
    type(p.pty(), "word\n");
    CHECK(read_to(p.pty()) == "word\r\ngot word\r\n");
    p = c.spawn(at_terminal(shell("read x; echo got $x"), {.echo = false}));
    type(p.pty(), "word\n");
    CHECK(read_to(p.pty()) == "got word\r\n");
    p = c.spawn(at_terminal(shell("head -c 5 | od -An -tx1"), {.raw = true}));
    type(p.pty(), std::string("\x03\x04\r\n\x1a"));
    CHECK(read_to(p.pty()) == " 03 04 0d 0a 1a\n");
}

TEST_CASE("run() gathers what comes from a terminal, whose input is at its end") {
    const client c = launch();
    run_result r = c.run(at_terminal(shell("cat; echo out; echo err >&2; exit 3")), {}, 60s);
    CHECK(r.out == "out\r\nerr\r\n");
    CHECK(r.status.code() == 3);
    // More than a terminal holds, and a descendant that keeps it open.
    r = c.run(at_terminal(shell("seq 20000; sleep infinity <&- & trap '' HUP")), {}, 60s);
    CHECK(r.out.ends_with("\r\n20000\r\n"));
    // For a moment the child has no terminal open.
    r = c.run(at_terminal(shell("exec <&- >&- 2>&-; ps -o stat= $$ >/dev/null; echo x >/dev/tty")));
    CHECK(r.out == "x\r\n");
    spawn_options o = at_terminal(shell("echo out; echo err >&2"));
    o.out = stdio::pipe{};
    r = c.run(o);
    CHECK(r.out == "out\n");
    CHECK(c.try_run(at_terminal(shell("true")), "input").error().object == "input");
    boost::asio::io_context io;
    const client a = launch(io.get_executor());
    auto future = a.async_run(at_terminal(shell("cat; stty size"), {.rows = 7, .columns = 9}), "",
                              boost::asio::use_future);
    io.run();
    CHECK(future.get().out == "7 9\r\n");
}

TEST_CASE("a coroutine talks to a child at a terminal") {
    namespace asio = boost::asio;
    asio::io_context io;
    const client c = launch(io.get_executor());
    std::string text;
    boost::system::error_code at_end;
    const auto talk = [&]() -> asio::awaitable<void> {
        const spawn_options o = at_terminal(shell("read x; echo got $x; exit 6"), {.echo = false});
        process p = co_await c.async_spawn(o, asio::use_awaitable);
        asio::posix::stream_descriptor terminal(io, p.take_pty().release());
        co_await terminal.async_write_some(asio::buffer("word\n", 5), asio::use_awaitable);
        try {
            co_await asio::async_read(terminal, asio::dynamic_buffer(text), asio::use_awaitable);
        } catch (const boost::system::system_error& e) {
            at_end = e.code();
        }
        const exit_status s = co_await p.async_wait(asio::use_awaitable);
        CHECK(s.code() == 6);
    };
    asio::co_spawn(io, talk(), [](const std::exception_ptr& e) {
        if (e) std::rethrow_exception(e);
    });
    io.run();
    CHECK(text == "got word\r\n");
    CHECK(errno_of(at_end) == EIO);
}

TEST_CASE("an entry of a template runs at a terminal") {
    const client c = launch();
    template_options t;
    t.process.program = CLEANFORK_TEST_HELPER_DIR "/template_hostile";
    c.add_template("t", t);
    call_options o{.args = {"/bin/stty", "size"}};
    o.attributes = at_terminal({.program = ""}, {.rows = 12, .columns = 34});
    CHECK(c.run_call("t", "execute", {}, o).out == "12 34\r\n");
    o.args = {"/bin/cat"};
    const process p = c.call("t", "execute", {}, o);
    type(p.pty(), "line\n\x04");
    CHECK(read_to(p.pty()) == "line\r\nline\r\n");
    CHECK(p.wait().code() == 0);
}

TEST_CASE("what makes no sense with a pty is refused, and says why") {
    const client c = launch();
    spawn_options o = at_terminal(shell("true"));
    o.err = stdio::pty{.rows = 99};
    CHECK(why_not(c, o).detail.find("settings differ") != std::string::npos);
    o = at_terminal(shell("true"));
    o.group = {.how = process_group::kind::join, .id = ::getpgrp()};
    CHECK(why_not(c, o).object == "stdio::pty");
    o = at_terminal(shell("true"));
    o.group = {.how = process_group::kind::session};
    CHECK(c.spawn(o).wait().code() == 0);
    o.controlling_terminal = 0;
    CHECK(why_not(c, o).error_number == EINVAL);
    template_options t;
    t.process = at_terminal({.program = CLEANFORK_TEST_HELPER_DIR "/template_hostile"});
    CHECK(c.try_add_template("t", t).error().object == "stdio::pty");
}

TEST_CASE("terminals leave no descriptor behind, whether the spawn works or fails") {
    const client c = launch();
    (void)c.run(at_terminal(shell("true")));
    const std::size_t before = ipc::open_descriptor_count();
    (void)c.run(at_terminal(shell("true")));
    CHECK(why_not(c, at_terminal({.program = "/no/such/program"})).step == step::exec);
    (void)c.spawn(at_terminal(shell("true"))).wait();
    CHECK(ipc::open_descriptor_count() == before);
    // One for the master is left, none for the terminal.
    rlimit limit{}, tight{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
    tight = {static_cast<rlim_t>(::dup(0)) + 1, limit.rlim_max};
    ::close(static_cast<int>(tight.rlim_cur) - 1);
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &tight) == 0);
    const auto r = open_pty();
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
    REQUIRE(r.has_error());
    CHECK(r.error().object == "TIOCGPTPEER");
    CHECK(r.error().error_number == EMFILE);
}
