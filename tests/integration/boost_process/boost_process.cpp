// The life of a process: cleanfork::boost_process beside Boost.Process v2.
#include <doctest/doctest.h>
#include <sys/wait.h>

#include "tests/helpers/patience.hpp"
#include "tests/integration/boost_process/boost_process_support.hpp"

using namespace boost_process_test;
using std::chrono::steady_clock;

TEST_CASE_TEMPLATE("Exit codes and signals are told alike", Library, boost_v2, forkserver) {
    asio::io_context io;
    auto exited = start<Library>(io, "exit 42");
    CHECK(exited.exit_code() == bp::evaluate_exit_code(0x7f));  // not known yet
    CHECK(exited.wait() == 42);
    CHECK(exited.native_exit_code() == 42 << 8);
    auto killed = start<Library>(io, "kill -TERM $$");
    CHECK(killed.wait() == SIGTERM);
    CHECK(WIFSIGNALED(killed.native_exit_code()));
    auto terminated = start<Library>(io, "exec sleep infinity");
    CHECK(terminated.running());
    CHECK(terminated.is_open());
    CHECK(terminated.id() > 0);
    terminated.terminate();
    error_code ec;
    CHECK(terminated.wait(ec) == SIGKILL);
    CHECK(!ec);
}

TEST_CASE_TEMPLATE("A detached process lives on", Library, boost_v2, forkserver) {
    asio::io_context io;
    auto p = start<Library>(io, "exec sleep infinity");
    auto handle = p.detach();
    CHECK_FALSE(p.is_open());
    p = typename Library::process(io);
    error_code ec;
    bp::native_exit_code_type status{};
    CHECK(handle.running(status, ec));
    handle.terminate(status, ec);
    handle.wait(status, ec);
    CHECK(!ec);
    CHECK(bp::evaluate_exit_code(status) == SIGKILL);
}

TEST_CASE("A detached process outlives its forkserver's session") {
    asio::io_context io;
    bp::process_handle kept, ended;
    {
        const cleanfork::client own = cleanfork::launch();
        kept = bp::process(io, "/bin/sleep", {"infinity"}, own).detach();
        ended = bp::process(io, "/bin/sleep", {"infinity"}, own, cleanfork::lifetime{}).detach();
    }
    bp::native_exit_code_type status{};
    pollfd p{ended.native_handle(), POLLIN, 0};
    CHECK(::poll(&p, 1, cleanfork::test::k_patience_ms) == 1);  // its lifetime was the session's
    error_code ec;
    CHECK(kept.running(status, ec));
    kept.terminate_if_running();
    p.fd = kept.native_handle();
    CHECK(::poll(&p, 1, 0) == 1);
}

TEST_CASE_TEMPLATE("A program that is not there is told as Boost tells it", Library, boost_v2,
                   forkserver) {
    using boost::system::errc::make_error_condition;
    asio::io_context io;
    const auto error_of = [&](const bp::filesystem::path& exe, auto&&... inits) {
        error_code ec;
        typename Library::launcher launch;
        auto p = launch(io.get_executor(), ec, exe, std::vector<std::string>{}, inits...);
        CHECK_FALSE(p.is_open());
        return ec.default_error_condition();
    };
    const auto missing = make_error_condition(boost::system::errc::no_such_file_or_directory);
    CHECK(error_of("/none/such") == missing);
    CHECK(error_of("true") == missing);  // PATH is not searched
    CHECK(error_of(bp::environment::find_executable("no-such-program-here")) == missing);
    CHECK(error_of("/bin/true", bp::process_start_dir("/none/such")) == missing);
    CHECK(error_of("/etc/passwd") == make_error_condition(boost::system::errc::permission_denied));
    CHECK_THROWS_AS(typename Library::process(io, "/none/such", {"x"}),
                    boost::system::system_error);
}

TEST_CASE("No such program and no such directory cannot be confused") {
    asio::io_context io;
    error_code ec;
    bp::default_process_launcher launch;
    launch(io, ec, "/none/such", std::vector<std::string>{});  // Boost 1.81's throws here
    CHECK(cleanfork::step_of(ec) == cleanfork::step::exec);
    launch(io, ec, "/bin/true", std::vector<std::string>{}, bp::process_start_dir("/none/dir"));
    CHECK(cleanfork::step_of(ec) == cleanfork::step::chdir);
    try {
        bp::process(io, "/bin/true", {}, bp::process_start_dir("/none/dir"));
        FAIL("no exception");
    } catch (const cleanfork::spawn_error& e) {
        CHECK(e.object() == "/none/dir");
        CHECK(e.error_number() == ENOENT);
    }
}

TEST_CASE("Signals reach the child by their names") {
    asio::io_context io;
    waiting_shell interrupted(io, "trap 'exit 33' INT; ");
    interrupted.process.interrupt();
    CHECK(interrupted.process.wait() == 33);
    waiting_shell asked(io, "trap 'exit 34' TERM; ");
    asked.process.suspend();
    asked.process.request_exit();
    CHECK(asked.process.running());
    asked.process.resume();
    CHECK(asked.process.wait() == 34);
    CHECK_FALSE(asked.process.running());
    error_code ec;
    asked.process.terminate(ec);
    CHECK(ec == boost::system::errc::no_such_process);
    CHECK_THROWS_AS(asked.process.terminate(), cleanfork::spawn_error);
}

TEST_CASE("A child that has ended unnoticed still takes signals, as a zombie does") {
    asio::io_context io;
    bp::process p(io, "/bin/true", {});
    pollfd end{p.native_handle(), POLLIN, 0};
    if (end.fd >= 0) CHECK(::poll(&end, 1, cleanfork::test::k_patience_ms) == 1);
    CHECK_NOTHROW(p.interrupt());
    CHECK(p.wait() == 0);
}

TEST_CASE_TEMPLATE("popen is a stream to and from the child", Library, boost_v2, forkserver) {
    asio::io_context io;
    typename Library::popen p(io, "/bin/cat", {"-n"});
    asio::write(p, asio::buffer(std::string("a line\n")));
    std::string line;
    asio::read_until(p, asio::dynamic_buffer(line), '\n');
    CHECK(line == "     1\ta line\n");
    p.get_stdin().close();
    CHECK(p.wait() == 0);
}

TEST_CASE("popen leaves the streams it does not use to other initializers") {
    const temporary_directory dir;
    asio::io_context io;
    bp::popen p(io, "/bin/sh", {"-c", "echo e >&2"},
                bp::process_stdio{{}, {}, bp::filesystem::path(dir.file("err"))});
    CHECK(p.wait() == 0);
    CHECK(contents(dir.file("err")) == "e\n");
}

TEST_CASE_TEMPLATE("A command line is parsed by shell and run", Library, boost_v2, forkserver) {
    asio::io_context io;
    asio::readable_pipe out(io);
    const bp::shell command(bp::cstring_ref("printf '%s|' \"two words\" $((1+1))"));
    typename Library::process p(io, command.exe(), command.args(),
                                bp::process_stdio{nullptr, out, {}});
    CHECK(read_all(out) == "two words|2|");
    CHECK(p.wait() == 0);
}

TEST_CASE("Arguments come as lists of any string type, also none with an executor") {
    asio::io_context io;
    const auto printed = [&](auto&& args) {
        asio::readable_pipe out(io);
        bp::process p(io, "/usr/bin/printf", args, bp::process_stdio{nullptr, out, {}});
        return read_all(out);
    };
    CHECK(printed(std::vector<std::string>{"%s-", "a", "b"}) == "a-b-");
    CHECK(printed(std::vector<bp::string_view>{"%s-", "a", "b"}) == "a-b-");
    CHECK(printed(std::vector<std::wstring>{L"%s-", L"\u00e4"}) == "\u00e4-");
    CHECK(bp::process(io.get_executor(), "/bin/true", {}).wait() == 0);
    CHECK(bp::process(io.get_executor(), "/bin/sh", {L"-c", L"exit 3"}).wait() == 3);
}

TEST_CASE("Processes leave no descriptor behind, also those that fail") {
    asio::io_context io;
    shell<forkserver>("true");
    outcome first;
    auto warm = start<forkserver>(io, "true");
    warm.async_wait(first.handler());
    io.run();
    warm = bp::process();
    const std::size_t before = open_descriptors();
    for (int i = 0; i < 20; ++i) {
        shell<forkserver>("true", bp::process_start_dir("/"));
        outcome o;
        auto p = start<forkserver>(io, "true");
        p.async_wait(o.handler());
        io.restart();
        io.run();
        error_code ec;
        bp::default_process_launcher()(io, ec, "/none/such", std::vector<std::string>{},
                                       bp::process_stdio{nullptr, nullptr, nullptr});
        CHECK(ec);
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("use() decides where processes come from") {
    cleanfork::client own = cleanfork::launch();
    bp::use(own);
    CHECK(shell<forkserver>("exit 1") == "=1");
    CHECK(own.stats().spawned_total == 1);
    bp::use(cleanfork::launch());
    CHECK(shell<forkserver>("exit 2") == "=2");
    bp::use(cleanfork::client());
    CHECK(shell<forkserver>("exit 3") == "=3");
    CHECK(own.stats().spawned_total == 1);
}

TEST_CASE("A lost private forkserver is replaced, and costs one failed spawn at most") {
    shell<forkserver>("true");
    asio::io_context io;
    const auto lost = bp::detail::client_in_use::instance().get();
    ::kill(lost->server().pid, SIGKILL);
    int failures = 0;
    const auto deadline = steady_clock::now() + cleanfork::test::k_patience;
    while (lost->connected() && steady_clock::now() < deadline) {
        error_code ec;
        bp::default_process_launcher()(io, ec, "/bin/true", std::vector<std::string>{});
        if (ec) {
            ++failures;
            CHECK(cleanfork::step_of(ec) == cleanfork::step::connect);
        }
    }
    CHECK(failures <= 1);
    CHECK(shell<forkserver>("exit 4") == "=4");
}

TEST_CASE("A forked copy of the program gets a forkserver of its own") {
    shell<forkserver>("true");
    const pid_t copy = ::fork();
    if (copy == 0) {
        int code = 99;
        try {
            asio::io_context io;
            code = bp::process(io, "/bin/sh", {"-c", "exit 17"}).wait();
        } catch (...) {
        }
        ::_exit(code);
    }
    int status = 0;
    CHECK(::waitpid(copy, &status, 0) == copy);
    CHECK(WEXITSTATUS(status) == 17);
    CHECK(shell<forkserver>("exit 18") == "=18");
}
