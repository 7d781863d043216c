// Everything public of Boost.Process v2, by the name it has behind the alias.
// docs/boost_process.md has the table; what is refused is in tests/refused.
#include <doctest/doctest.h>

#include <boost/asio/bind_executor.hpp>

#include "tests/integration/boost_process/boost_process_support.hpp"

using namespace boost_process_test;

namespace {

// ---- each name, used as Boost declares it
using strings =
    std::tuple<bp::basic_cstring_ref<char>, bp::cstring_ref, bp::u16cstring_ref, bp::u32cstring_ref,
               bp::wcstring_ref, bp::basic_string_view<char>, bp::string_view, bp::wstring_view>;
static_assert(std::tuple_size_v<strings> == 8);
static_assert(std::is_same_v<bp::error_code, boost::system::error_code>);
static_assert(std::is_same_v<bp::error_category, boost::system::error_category>);
static_assert(std::is_same_v<bp::system_error, boost::system::system_error>);
static_assert(std::is_same_v<bp::filesystem::path, v2::filesystem::path>);
static_assert(std::is_same_v<bp::pid_type, int>);
static_assert(std::is_same_v<bp::native_exit_code_type, int>);
static_assert(std::is_same_v<bp::process, bp::basic_process<>>);
static_assert(std::is_same_v<bp::popen, bp::basic_popen<>>);
static_assert(std::is_same_v<bp::process_handle, bp::basic_process_handle<>>);
static_assert(std::is_same_v<bp::process::handle_type, bp::process_handle>);
template <class E>
using at = bp::basic_process<>::rebind_executor<E>::other;
static_assert(std::is_same_v<at<asio::io_context::executor_type>,
                             bp::basic_process<asio::io_context::executor_type>>);
static_assert(std::is_same_v<bp::posix::default_launcher, bp::default_process_launcher>);
static_assert(std::is_same_v<bp::posix::vfork_launcher, bp::default_process_launcher>);
static_assert(std::is_same_v<bp::posix::pipe_fork_launcher, bp::default_process_launcher>);
static_assert(std::is_same_v<bp::posix::pdfork_launcher, bp::default_process_launcher>);
static_assert(std::is_class_v<bp::posix::fork_and_forget_launcher>);
static_assert(std::is_class_v<bp::bound_launcher<bp::default_process_launcher>>);
static_assert(bp::initializer<bp::process_stdio> && bp::initializer<bp::process_start_dir> &&
              bp::initializer<bp::process_environment> && bp::initializer<bp::posix::bind_fd>);
static_assert(!bp::initializer<int>);

// Of environment:: all is Boost's: what is said of the namespace is said of its names.
static_assert(std::is_same_v<bp::environment::key_value_pair, v2::environment::key_value_pair>);
static_assert(std::is_same_v<bp::environment::current_view, v2::environment::current_view>);

const std::vector<std::string> no_args;

}  // namespace

TEST_CASE("What Boost.Process computes is the same behind the alias") {
    CHECK(bp::current_pid() == ::getpid());
    CHECK(bp::evaluate_exit_code(3 << 8) == 3);
    CHECK(bp::evaluate_exit_code(SIGTERM) == SIGTERM);
    CHECK_FALSE(bp::process_is_running(0));
    CHECK(&bp::get_shell_category() == &bp::shell_category);
    CHECK(bp::error::get_utf8_category().name() == v2::error::get_utf8_category().name());
    CHECK(bp::system_category() == boost::system::system_category());
    const bp::shell words("sort -u 'two words'");
    CHECK(words.argc() == 3);
    CHECK(bp::environment::find_executable("sh") == v2::environment::find_executable("sh"));
    CHECK(bp::environment::home() == v2::environment::home());
}

TEST_CASE("An exit code becomes the error where there is none") {
    error_code none, broken = asio::error::broken_pipe;
    CHECK_FALSE(bp::check_exit_code(none, 0));
    CHECK(bp::check_exit_code(none, 4).value() == 4);
    CHECK(none.category() == bp::error::get_exit_code_category());
    CHECK(bp::check_exit_code(broken, 4) == asio::error::broken_pipe);
}

TEST_CASE("code_as_error completes on the executor of what it wraps") {
    asio::io_context io;
    const auto strand = asio::make_strand(io);
    bp::process p(io, "/bin/sh", {"-c", "exit 2"});
    error_code told;
    bool in_strand = false;
    p.async_wait(bp::code_as_error(asio::bind_executor(strand, [&](error_code ec) {
        told = ec;
        in_strand = strand.running_in_this_thread();
    })));
    io.run();
    CHECK(told.value() == 2);
    CHECK(in_strand);
    bp::process q(io, "/bin/sh", {"-c", "exit 3"});
    auto future =
        q.async_wait(bp::code_as_error(asio::use_future, asio::error::get_misc_category()));
    io.restart();
    io.run();
    try {
        future.get();
        FAIL("no exception");
    } catch (const boost::system::system_error& e) {
        CHECK(e.code() == error_code(3, asio::error::get_misc_category()));
    }
}

TEST_CASE("A detached process is waited for through its handle, in either of Boost's forms") {
    asio::io_context io;
    bp::process_handle h = bp::process(io, "/bin/sh", {"-c", "exit 6"}).detach();
    bp::native_exit_code_type status = -1;
    h.async_wait(status, [](error_code ec) { CHECK(!ec); });
    io.run();
    CHECK(bp::evaluate_exit_code(status) == 6);
    outcome o;
    h.async_wait(o.handler());
    io.restart();
    io.run();
    CHECK(bp::evaluate_exit_code(o.code) == 6);
}

TEST_CASE_TEMPLATE("A bound launcher puts its initializers before those of the call", Library,
                   boost_v2, forkserver) {
    const temporary_directory here;
    asio::io_context io;
    asio::readable_pipe out(io);
    asio::writable_pipe in(io);
    asio::connect_pipe(out, in);
    auto launcher = Library::bind_default(bp::process_start_dir(here.string()));
    typename Library::process p =
        launcher(io, "/bin/pwd", no_args, bp::process_stdio{{}, in, nullptr});
    in.close();
    CHECK(read_all(out) == here.string() + "\n");
    CHECK(p.wait() == 0);
    // The later one decides.
    error_code ec;
    typename Library::process q =
        launcher(io.get_executor(), ec, "/bin/sh", std::vector<std::string>{"-c", "test $PWD = /"},
                 bp::process_start_dir("/"));
    CHECK(!ec);
    CHECK(q.wait() == 0);
}

TEST_CASE("Launchers may be bound again, and are used by popen") {
    const temporary_directory here;
    asio::io_context io;
    auto launcher = bp::bind_launcher(bp::bind_default_launcher(bp::process_start_dir("/")),
                                      bp::process_start_dir(here.string()));
    const auto again(launcher);
    CHECK(sizeof again == sizeof launcher);
    bp::popen p(launcher, io, "/bin/pwd", {});
    std::string text;
    error_code ec;
    asio::read(p, asio::dynamic_buffer(text), ec);
    CHECK(text == here.string() + "\n");
    bp::popen q(bp::posix::vfork_launcher(), io.get_executor(), "/bin/sh",
                std::vector<std::string>{"-c", "exit 5"});
    CHECK(q.wait() == 5);
    CHECK_THROWS_AS(bp::bind_default_launcher()(io, "/no/such/program", no_args),
                    cleanfork::spawn_error);
}

// As Boost has it: the child gets one end of a new pipe, the object is left alone.
TEST_CASE_TEMPLATE("A pipe that is open already stays what it is", Library, boost_v2, forkserver) {
    asio::io_context io;
    asio::readable_pipe out(io);
    asio::writable_pipe in(io);
    asio::connect_pipe(out, in);
    typename Library::process reader(io, "/bin/cat", {}, bp::process_stdio{in, nullptr, nullptr});
    CHECK(reader.running());
    reader.request_exit();
    CHECK(reader.wait() == SIGTERM);
    typename Library::process writer(io, "/bin/sh", {"-c", "echo to nobody && exit 7"},
                                     bp::process_stdio{nullptr, out, nullptr});
    CHECK(writer.wait() == 7);
    asio::write(in, asio::buffer(std::string("mine")));
    in.close();
    CHECK(read_all(out) == "mine");
}

#ifdef CLEANFORK_BOOST_PROCESS_EXT
TEST_CASE("ext:: looks at a child by its handle") {
    asio::io_context io;
    waiting_shell shell(io);
    auto& h = shell.process.handle();
    error_code ec;
    CHECK(bp::ext::exe(h) == bp::ext::exe(h.id()));
    CHECK(bp::ext::cwd(h) == bp::filesystem::current_path());
    CHECK(bp::ext::cmd(h, ec).argc() > 1);
    CHECK(bp::ext::env(h, ec).begin() != bp::ext::env(h, ec).end());
    CHECK(bp::parent_pid(h.id()) > bp::root_pid - 1);
    CHECK_FALSE(bp::all_pids().empty());
    CHECK(bp::child_pids(h.id()).empty());
}
#endif
