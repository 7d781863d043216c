// A program of Boost.Process v2: sorts words, counts them in a pipeline, and
// ends what takes too long. It is compiled twice; only the alias below differs.
#ifdef USE_CLEANFORK
#include <cleanfork/boost_process.hpp>
namespace bp = cleanfork::boost_process;
#else
#if __has_include(<boost/process/v2.hpp>)
#include <boost/process/v2.hpp>
#else  // Boost 1.92, where v2 is all of it
#include <boost/process.hpp>
#endif
namespace bp = boost::process::v2;
#endif

#include <boost/asio.hpp>
#include <chrono>
#include <csignal>
#include <iostream>
#include <string>

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

std::string read_all(asio::readable_pipe& pipe) {
    std::string text;
    error_code ec;  // the end of the stream
    asio::read(pipe, asio::dynamic_buffer(text), ec);
    return text;
}

// Standard input and output through pipes, and an environment of its own.
void sort_words(asio::io_context& io) {
    asio::writable_pipe in(io);
    asio::readable_pipe out(io);
    bp::process sort(io, bp::environment::find_executable("sort"), {"-u"},
                     bp::process_stdio{in, out, nullptr}, bp::process_environment{"LC_ALL=C"});
    asio::write(in, asio::buffer(std::string("pear\napple\nFig\napple\n")));
    in.close();
    std::cout << "sorted:\n" << read_all(out) << "exit code " << sort.wait() << "\n";
}

// Two processes joined by a pipe, in a directory of their own choice.
void count_in_pipeline(asio::io_context& io, const std::string& directory) {
    asio::readable_pipe between_out(io), result(io);
    asio::writable_pipe between_in(io);
    asio::connect_pipe(between_out, between_in);
    bp::process list(io, bp::environment::find_executable("ls"), {"-1"},
                     bp::process_start_dir(directory),
                     bp::process_stdio{nullptr, between_in, nullptr});
    between_in.close();
    bp::process count(io, bp::environment::find_executable("wc"), {"-l"},
                      bp::process_stdio{between_out, result, nullptr});
    between_out.close();
    std::cout << "entries: " << read_all(result);
    std::cout << "exit codes " << list.wait() << " and " << count.wait() << "\n";
}

// The shell's variables come from this program, its errors go where its output goes.
void run_shell(asio::io_context& io) {
    asio::readable_pipe out(io);
    bp::environment::set("GREETING", "good morning");
    bp::process shell(io, "/bin/sh", {"-c", "echo $GREETING; cd /no/such/place || exit 3"},
                      bp::process_stdio{nullptr, out, STDOUT_FILENO});
    std::cout << "shell: " << read_all(out) << "exit code " << shell.wait() << "\n";
}

// A process races a timer.
void run_with_time_limit(const std::string& seconds, std::chrono::milliseconds at_most) {
    asio::io_context io;  // run once: Boost can block in one that is run again
    bp::process sleep(io, bp::environment::find_executable("sleep"), {seconds});
    asio::steady_timer limit(io, at_most);
    sleep.async_wait([&](error_code ec, int) {
        limit.cancel();
        const int status = sleep.native_exit_code();
        std::cout << "sleep " << seconds << ": ";
        if (ec)
            std::cout << ec.message() << "\n";
        else if (WIFSIGNALED(status))
            std::cout << "ended by signal " << WTERMSIG(status) << "\n";
        else
            std::cout << "exit code " << sleep.exit_code() << "\n";
    });
    limit.async_wait([&](error_code ec) {
        if (!ec) sleep.request_exit();
    });
    io.run();
}

void run_what_is_not_there(asio::io_context& io) {
    try {
        bp::process missing(io, "/no/such/program", {"x"});
        std::cout << "it is there?\n";
    } catch (const boost::system::system_error& e) {
        const bool expected = e.code() == boost::system::errc::no_such_file_or_directory;
        std::cout << "missing: " << (expected ? "no such file" : e.what()) << "\n";
    }
}

}  // namespace

int main(int argc, char** argv) {
    const std::string directory = argc > 1 ? argv[1] : "/usr";
    // A child that ends early must not end us. (Boost's children would inherit
    // an ignored SIGPIPE; those of a forkserver start with none ignored.)
    std::signal(SIGPIPE, SIG_IGN);
    std::cout << std::unitbuf;  // Boost's failed children print what is buffered again
    asio::io_context io;
    try {
        sort_words(io);
        count_in_pipeline(io, directory);
        run_shell(io);
        run_with_time_limit("0.01", std::chrono::minutes(10));
        run_with_time_limit("infinity", std::chrono::milliseconds(300));
        run_what_is_not_there(io);
    } catch (const std::exception& e) {
        std::cerr << e.what() << "\n";
        return 1;
    }
}
