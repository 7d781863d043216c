// Boost.Process v2's initializers, given to v2 itself and to the forkserver.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>

#if __has_include(<boost/process/v2/impl/environment.ipp>)
#include <boost/process/v2/impl/environment.ipp>  // what its header-only mode forgets
#endif
#include <cstdio>
#include <map>

#include "tests/integration/boost_process/boost_process_support.hpp"

using namespace boost_process_test;

namespace {

template <class Library>
std::string sorted(const std::string& input) {
    asio::io_context io;
    asio::writable_pipe in(io);
    asio::readable_pipe out(io);
    typename Library::process p(io, "/usr/bin/sort", {"-r"}, bp::process_stdio{in, out, nullptr});
    asio::write(in, asio::buffer(input));
    in.close();
    const std::string text = read_all(out);
    return text + std::to_string(p.wait());
}

}  // namespace

TEST_CASE("A child reads from one pipe and writes to another, as Boost's does") {
    CHECK(sorted<forkserver>("a\nc\nb\n") == "c\nb\na\n0");
    CHECK(sorted<forkserver>("a\nc\nb\n") == sorted<boost_v2>("a\nc\nb\n"));
}

TEST_CASE_TEMPLATE("Standard streams can be files, handles, numbers and null", Library, boost_v2,
                   forkserver) {
    const temporary_directory dir;
    std::ofstream(dir.file("in")) << "from a file";
    asio::io_context io;

    SUBCASE("a path is read, another written") {
        typename Library::process p(
            io, "/bin/cat", {},
            bp::process_stdio{
                bp::filesystem::path(dir.file("in")), bp::filesystem::path(dir.file("out")), {}});
        CHECK(p.wait() == 0);
        CHECK(contents(dir.file("out")) == "from a file");
    }
    SUBCASE("FILE* and int") {
        FILE* const out = std::fopen(dir.file("out").c_str(), "we");
        const int in = ::open(dir.file("in").c_str(), O_RDONLY | O_CLOEXEC);
        typename Library::process p(io, "/bin/cat", {}, bp::process_stdio{in, out, nullptr});
        CHECK(p.wait() == 0);
        std::fclose(out);
        ::close(in);
        CHECK(contents(dir.file("out")) == "from a file");
    }
    SUBCASE("an object with a native handle") {
        asio::local::stream_protocol::socket ours(io), theirs(io);
        asio::local::connect_pair(ours, theirs);
        typename Library::process p(io, "/bin/echo", {"to a socket"},
                                    bp::process_stdio{nullptr, theirs, nullptr});
        theirs.close();
        std::string text;
        error_code ec;
        asio::read(ours, asio::dynamic_buffer(text), ec);
        CHECK(text == "to a socket\n");
        CHECK(p.wait() == 0);
    }
    SUBCASE("null is /dev/null") {
        asio::readable_pipe out(io);
        typename Library::process p(io, "/bin/sh",
                                    {"-c", "readlink /proc/self/fd/0; readlink /proc/$$/fd/2"},
                                    bp::process_stdio{nullptr, out, nullptr});
        CHECK(read_all(out) == "/dev/null\n/dev/null\n");
        CHECK(p.wait() == 0);
    }
    SUBCASE("a stream can be what an earlier one has become") {
        asio::readable_pipe out(io);
        typename Library::process p(io, "/bin/sh", {"-c", "echo out; echo err >&2"},
                                    bp::process_stdio{nullptr, out, STDOUT_FILENO});
        CHECK(read_all(out) == "out\nerr\n");
        CHECK(p.wait() == 0);
    }
}

TEST_CASE_TEMPLATE("Streams that are not mentioned are the caller's", Library, boost_v2,
                   forkserver) {
    const temporary_directory dir;
    const int before = ::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    const int file = ::open(dir.file("out").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    asio::io_context io;
    std::fflush(stdout);
    ::dup2(file, STDOUT_FILENO);
    typename Library::process p(io, "/bin/echo", {"inherited"});
    const int code = p.wait();
    ::dup2(before, STDOUT_FILENO);
    ::close(before);
    ::close(file);
    CHECK(code == 0);
    CHECK(contents(dir.file("out")) == "inherited\n");
}

TEST_CASE("A caller without standard input gives /dev/null on") {
    const int before = ::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    ::close(STDIN_FILENO);
    asio::io_context io;
    bp::process p(io, "/bin/sh", {"-c", "test $(readlink /proc/self/fd/0) = /dev/null"});
    const int code = p.wait();
    ::dup2(before, STDIN_FILENO);
    ::close(before);
    CHECK(code == 0);
}

TEST_CASE_TEMPLATE("The start directory is where the child and its relative program are", Library,
                   boost_v2, forkserver) {
    const temporary_directory dir;
    CHECK(shell<Library>("pwd", bp::process_start_dir(dir.string())) == dir.string() + "\n=0");
    std::filesystem::copy_file("/bin/pwd", dir.file("program"));
    for (const char* program : {"./program", "program"}) {
        asio::io_context io;
        asio::readable_pipe out(io);
        typename Library::process p(io, program, {}, bp::process_start_dir(dir.string()),
                                    bp::process_stdio{nullptr, out, {}});
        CHECK(read_all(out) == dir.string() + "\n");
        CHECK(p.wait() == 0);
    }
}

TEST_CASE_TEMPLATE("Directory and environment are the caller's at the time of the call", Library,
                   boost_v2, forkserver) {
    shell<Library>("true");  // the forkserver has been running since here at the latest
    const temporary_directory dir;
    const std::filesystem::path before = std::filesystem::current_path();
    std::filesystem::current_path(dir.string());
    ::setenv("CLEANFORK_TEST_LATE", "late news", 1);
    const std::string seen = shell<Library>("pwd; echo $CLEANFORK_TEST_LATE");
    ::unsetenv("CLEANFORK_TEST_LATE");
    const std::string relative = shell<Library>("pwd", bp::process_start_dir(".."));
    std::filesystem::current_path(before);
    CHECK(seen == dir.string() + "\nlate news\n=0");
    CHECK(relative == std::filesystem::path(dir.string()).parent_path().string() + "\n=0");
    CHECK(shell<Library>("echo ${CLEANFORK_TEST_LATE-unset}") == "unset\n=0");
}

TEST_CASE_TEMPLATE("The environment is exactly the one given", Library, boost_v2, forkserver) {
    const std::string script = "/usr/bin/env | grep -v -e '^PWD=' -e '^_=' -e '^SHLVL=' | sort";
    const std::string all = "A=1\nB=two words\nC=\nPATH=/usr/bin:/bin\n=0";
    CHECK(shell<Library>(script, bp::process_environment{"C=", "PATH=/usr/bin:/bin", "A=1",
                                                         "B=two words"}) == all);
    const std::vector<std::string> strings{"A=1", "B=two words", "C=", "PATH=/usr/bin:/bin"};
    CHECK(shell<Library>(script, bp::process_environment(strings)) == all);
    const std::map<std::string, std::string> pairs{
        {"A", "1"}, {"B", "two words"}, {"C", ""}, {"PATH", "/usr/bin:/bin"}};
    CHECK(shell<Library>(script, bp::process_environment(pairs)) == all);
    const auto current = bp::environment::current();
    std::vector<bp::environment::key_value_pair_view> copy(current.begin(), current.end());
    CHECK(shell<Library>("echo $PATH", bp::process_environment(copy)) ==
          std::string(::getenv("PATH")) + "\n=0");
}

TEST_CASE("A copy of an environment outlives its original") {
    auto original = std::make_unique<bp::process_environment>(
        bp::process_environment{"COPIED=a value that is long enough to be on the heap"});
    bp::process_environment copy(std::as_const(*original));
    original.reset();
    CHECK(shell<forkserver>("echo $COPIED", copy) ==
          "a value that is long enough to be on the heap\n=0");
}

TEST_CASE("Initializers that are const work as well") {
    const bp::process_start_dir dir("/usr");
    const bp::process_environment env{"A=b"};
    CHECK(shell<forkserver>("pwd; echo $A", dir, env) == "/usr\nb\n=0");
    CHECK(shell<boost_v2>("pwd", dir) != "/usr\n=0");  // Boost 1.81 passes over it in silence
}

// Not with Boost: its bind_fd::on_setup returns nothing, and optimized code crashes.
TEST_CASE("bind_fd gives the child a descriptor of any kind") {
    const temporary_directory dir;
    std::ofstream(dir.file("in")) << "text";
    const std::string list = "ls -m /proc/$$/fd; ";
    SUBCASE("the same number, though it is close-on-exec") {
        const int fd = ::open(dir.file("in").c_str(), O_RDONLY | O_CLOEXEC);
        const std::string n = std::to_string(fd);
        CHECK(shell<forkserver>("cat <&" + n, bp::posix::bind_fd(fd)) == "text=0");
        ::close(fd);
    }
    SUBCASE("another number, and nothing else") {
        const int fd = ::open(dir.file("in").c_str(), O_RDONLY | O_CLOEXEC);
        CHECK(shell<forkserver>("cat <&7; ls -x /proc/self/fd | tr -d '\\n'",
                                bp::posix::bind_fd(7, fd)) == "text0  1  2  3  7=0");
        ::close(fd);
    }
    SUBCASE("a path, with flags") {
        CHECK(shell<forkserver>("cat <&9", bp::posix::bind_fd(9, dir.file("in"), O_RDONLY)) ==
              "text=0");
        CHECK(shell<forkserver>("echo written >&9", bp::posix::bind_fd(9, dir.file("new"))) ==
              "=0");
        CHECK(contents(dir.file("new")) == "written\n");
    }
    SUBCASE("FILE* and an object with a native handle") {
        FILE* const f = std::fopen(dir.file("in").c_str(), "re");
        CHECK(shell<forkserver>("cat <&8", bp::posix::bind_fd(8, f)) == "text=0");
        std::fclose(f);
        asio::io_context io;
        asio::readable_pipe read(io);
        asio::writable_pipe write(io);
        asio::connect_pipe(read, write);
        CHECK(shell<forkserver>("echo through >&8", bp::posix::bind_fd(8, write)) == "=0");
        write.close();
        CHECK(read_all(read) == "through\n");
    }
    SUBCASE("a standard stream, and two that change places") {
        CHECK(shell<forkserver>("echo lost >&2; echo kept",
                                bp::posix::bind_fd(2, dir.file("err"))) == "kept\n=0");
        CHECK(contents(dir.file("err")) == "lost\n");
        const int a = ::open(dir.file("in").c_str(), O_RDONLY | O_CLOEXEC);
        const int b = ::open("/dev/zero", O_RDONLY | O_CLOEXEC);
        const std::string na = std::to_string(a), nb = std::to_string(b);
        CHECK(shell<forkserver>("cat <&" + nb + "; readlink /proc/$$/fd/" + na,
                                bp::posix::bind_fd(a, b),
                                bp::posix::bind_fd(b, a)) == "text/dev/zero\n=0");
        ::close(a);
        ::close(b);
    }
}

TEST_CASE("Initializers of ours choose forkserver, lifetime and every other option") {
    const cleanfork::client own = cleanfork::launch();
    CHECK(shell<forkserver>("nice; echo $ADDED; echo ${PATH:+kept}", std::as_const(own),
                            cleanfork::lifetime{}, [](cleanfork::spawn_options& o) {
                                o.nice = 3;
                                o.env.set["ADDED"] = "yes";
                            }) == "3\nyes\nkept\n=0");
    CHECK(own.stats().spawned_total == 1);
}

TEST_CASE("An initializer that could not open its file or pipe fails the spawn") {
    asio::io_context io;
    const auto error_of = [&](auto&&... inits) {
        error_code ec;
        bp::default_process_launcher()(io, ec, "/bin/true", std::vector<std::string>{}, inits...);
        return ec;
    };
    CHECK(error_of(bp::process_stdio{bp::filesystem::path("/none/such"), {}, {}}) ==
          boost::system::errc::bad_file_descriptor);
    CHECK(error_of(bp::posix::bind_fd(5, "/none/such", O_RDONLY)) ==
          boost::system::errc::bad_file_descriptor);
    const error_code closed = error_of(bp::posix::bind_fd(5, 987));
    CHECK(closed == boost::system::errc::bad_file_descriptor);
    CHECK(cleanfork::step_of(closed) == cleanfork::step::request);

    // Boost's child would write to the caller's standard output here.
    rlimit before{};
    ::getrlimit(RLIMIT_NOFILE, &before);
    asio::readable_pipe out(io);
    const rlimit none{0, before.rlim_max};
    error_code without;
    ::setrlimit(RLIMIT_NOFILE, &none);
    try {
        bp::process_stdio streams{{}, out, {}};
        ::setrlimit(RLIMIT_NOFILE, &before);
        without = error_of(streams);
    } catch (const boost::system::system_error& e) {  // newer Boosts throw at once
        ::setrlimit(RLIMIT_NOFILE, &before);
        without = e.code();
    }
    CHECK(without == boost::system::errc::too_many_files_open);
}
