#include "tests/bench/contenders.hpp"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/process/v2/process.hpp>
#include <cstdio>
#include <ctime>
#include <stdexcept>
#include <system_error>

extern char** environ;

namespace bench {

namespace {

void expect_success(int wait_status) {
    if (wait_status != 0)
        throw std::runtime_error("the program ended with wait status " +
                                 std::to_string(wait_status));
}

void reap(pid_t pid) {
    int status = 0;
    if (::waitpid(pid, &status, 0) != pid)
        throw std::system_error(errno, std::generic_category(), "waitpid");
    expect_success(status);
}

pid_t start(const std::string& program) {
    char* argv[] = {const_cast<char*>(program.c_str()), nullptr};
    pid_t pid = 0;
    if (const int e = ::posix_spawn(&pid, program.c_str(), nullptr, nullptr, argv, environ))
        throw std::system_error(e, std::generic_category(), "posix_spawn");
    return pid;
}

}  // namespace

std::chrono::nanoseconds thread_cpu() {
    timespec t{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec);
}

void vfork_and_exec(const std::string& program) {
    char* argv[] = {const_cast<char*>(program.c_str()), nullptr};
    const pid_t pid = ::vfork();
    if (pid == 0) {
        ::execve(program.c_str(), argv, environ);
        ::_exit(127);
    }
    reap(pid);
}

void fork_and_exec(const std::string& program) {
    char* argv[] = {const_cast<char*>(program.c_str()), nullptr};
    const pid_t pid = ::fork();
    if (pid == 0) {
        ::execve(program.c_str(), argv, environ);
        ::_exit(127);
    }
    if (pid < 0) throw std::system_error(errno, std::generic_category(), "fork");
    reap(pid);
}

void posix_spawn_and_wait(const std::string& program) { reap(start(program)); }

std::chrono::nanoseconds posix_spawn_cpu(const std::string& program) {
    const auto before = thread_cpu();
    const pid_t pid = start(program);
    const auto used = thread_cpu() - before;
    reap(pid);
    return used;
}

void boost_process_and_wait(boost::asio::io_context& io, const std::string& program) {
    boost::process::v2::process p(io, program, {});
    expect_success(p.wait());
}

void cleanfork_run(const cleanfork::client& client, const std::string& program) {
    const auto r = client.run({.program = program});
    if (!r.status.success()) throw std::runtime_error("the program " + r.status.to_string());
}

void cleanfork_spawn_and_wait(const cleanfork::client& client, const std::string& program) {
    const auto status = client.spawn({.program = program}).wait();
    if (!status.success()) throw std::runtime_error("the program " + status.to_string());
}

double posix_spawn_rate(const std::string& program, int total, int in_flight) {
    const auto begin = std::chrono::steady_clock::now();
    int alive = 0;
    for (int started = 0; started < total || alive > 0;) {
        for (; started < total && alive < in_flight; ++started, ++alive) start(program);
        // One blocking wait, then whatever else has ended.
        for (int options = 0; alive > 0; options = WNOHANG, --alive) {
            int status = 0;
            if (::waitpid(-1, &status, options) <= 0) break;
            expect_success(status);
        }
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    return total / took.count();
}

double cleanfork_rate(const cleanfork::client& client, boost::asio::io_context& io,
                      const std::string& program, int total, int in_flight) {
    const cleanfork::spawn_options options{.program = program};
    int left = total;
    // A chain per slot: the exit of one child starts the next.
    std::function<void()> next = [&] {
        if (left-- <= 0) return;
        client.async_spawn(options, [&](std::exception_ptr failed, cleanfork::process p) {
            if (failed) std::rethrow_exception(failed);
            auto kept = std::make_shared<cleanfork::process>(std::move(p));
            kept->async_wait([&, kept](boost::system::error_code ec, cleanfork::exit_status s) {
                if (ec || !s.success()) throw std::runtime_error("the program " + s.to_string());
                next();
            });
        });
    };
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < in_flight; ++i) next();
    io.restart();
    io.run();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    return total / took.count();
}

}  // namespace bench
