// A module that needs the shared library of cleanfork, with an io_context of its own.
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>
#include <cleanfork/client.hpp>
#include <future>
#include <thread>

using namespace cleanfork;

namespace {

std::string blocking(const client& c) {
    const run_result r =
        c.run({.program = "cat", .in = stdio::pipe{}, .out = stdio::pipe{}}, "to and fro");
    if (!r.status.success() || r.out != "to and fro") return "run: " + r.status.to_string();
    const auto missing = c.try_spawn({.program = "/no/such/program"});
    if (missing || missing.error().step != step::exec) return "a missing program was not reported";
    return {};
}

// Exceptions cross the border between the module and the library.
std::string throwing(const client& c) {
    try {
        (void)c.spawn({.program = "true", .cwd = "/no/such/directory"});
    } catch (const spawn_error& e) {
        return e.step() == step::chdir ? "" : e.what();
    }
    return "a missing directory was not thrown";
}

// The context is the module's and runs in its thread; the operations are the
// library's, and must find that thread: also when the socket becomes readable
// and no operation is waiting, as during the blocking call between spawn and wait.
std::string asynchronous(const client& c) {
    for (int i = 0; i < 20; ++i) {
        process p =
            c.async_spawn({.program = "true", .out = stdio::pipe{}}, boost::asio::use_future).get();
        char end;
        if (::read(p.out(), &end, 1) != 0) return "output of a program without any";
        (void)c.list();
        if (!p.async_wait(boost::asio::use_future).get().success()) return "async_wait";
    }
    return {};
}

std::string use() {
    boost::asio::io_context io;
    const client c = launch(io.get_executor());
    const auto stay = boost::asio::make_work_guard(io);
    std::jthread loop([&] { io.run(); });
    std::string wrong = blocking(c);
    if (wrong.empty()) wrong = throwing(c);
    if (wrong.empty()) wrong = asynchronous(c);
    io.stop();
    return wrong;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const char* use_it() {
    static std::string wrong;
    try {
        wrong = use();
    } catch (const std::exception& e) {
        wrong = e.what();
    }
    return wrong.empty() ? nullptr : wrong.c_str();
}
