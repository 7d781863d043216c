// Many threads, blocking and asynchronous, on one client.
#include <fcntl.h>

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>
#include <random>
#include <thread>

#include "ipc/base/fd.hpp"
#include "tests/integration/client/client_support.hpp"

using namespace cleanfork;
using namespace cleanfork::test;

namespace {

void in_threads(int n, const std::function<void(int)>& body) {
    std::vector<std::thread> all;
    for (int i = 0; i < n; ++i) all.emplace_back(body, i);
    for (std::thread& t : all) t.join();
}

// A context that runs in threads of its own.
struct running_context {
    boost::asio::io_context io;
    boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work{
        io.get_executor()};
    std::vector<std::thread> threads;
    explicit running_context(int n) {
        for (int i = 0; i < n; ++i) threads.emplace_back([this] { io.run(); });
    }
    ~running_context() {
        work.reset();
        for (std::thread& t : threads) t.join();
    }
};

}  // namespace

TEST_CASE("eight threads spawn two hundred programs each, and get their own statuses") {
    const client c = launch();
    c.run({.program = "true"});
    const std::size_t descriptors = ipc::open_descriptor_count();
    std::atomic<int> wrong = 0;
    in_threads(8, [&](int thread) {
        for (int i = 0; i < 200; ++i) {
            const int code = (thread * 31 + i) % 251;
            const process p = c.spawn(shell("exit " + std::to_string(code)));
            if (p.wait().code() != code) ++wrong;
        }
    });
    CHECK(wrong == 0);
    CHECK(c.stats().spawned_total == 1601);
    CHECK(c.stats().children == 0);
    CHECK(ipc::open_descriptor_count() == descriptors);
}

TEST_CASE("a run whose output closed early hears of the end while another thread reads") {
    const client c = launch();
    int gate[2], marks[2];
    REQUIRE(::pipe2(gate, O_CLOEXEC) == 0);
    REQUIRE(::pipe2(marks, O_CLOEXEC) == 0);
    unique_fd gate_out(gate[0]), gate_in(gate[1]), marks_out(marks[0]), marks_in(marks[1]);

    // It blocks first, and so has the reader's role.
    const process first = c.spawn({.program = "sleep", .args = {"infinity"}});
    std::thread reader([&first] { first.wait(); });

    std::atomic<bool> right = false;
    std::thread runner([&] {
        spawn_options o =
            shell("echo x; echo y >&4; read a <&3; exec >&-; echo z >&4; read a <&3; exit 3");
        o.out = stdio::pipe{};
        o.fds = {{gate_out.get(), 3}, {marks_in.get(), 4}};
        const auto r = c.try_run(o, {}, k_patience);
        right = r && r->out == "x\n" && r->status.code() == 3;
    });
    char mark[2];
    REQUIRE(::read(marks_out.get(), mark, 2) == 2);  // it runs
    REQUIRE(::write(gate_in.get(), "\n", 1) == 1);
    REQUIRE(::read(marks_out.get(), mark, 2) == 2);  // it has closed its output
    REQUIRE(::write(gate_in.get(), "\n", 1) == 1);
    runner.join();
    CHECK(right);
    CHECK(first.running());
    first.terminate();
    reader.join();
}

TEST_CASE("runs with pipes from many threads do not wait for each other") {
    const client c = launch();
    std::atomic<int> wrong = 0;
    in_threads(8, [&](int thread) {
        for (int i = 0; i < 25; ++i) {
            const std::string data(
                static_cast<std::size_t>(thread + 1) * 20'000 + static_cast<std::size_t>(i),
                static_cast<char>('a' + thread));
            const auto r =
                c.run({.program = "cat", .in = stdio::pipe{}, .out = stdio::pipe{}}, data);
            if (r.out != data || !r.status.success()) ++wrong;
        }
    });
    CHECK(wrong == 0);
}

TEST_CASE("many threads wait for the same child, with and without a timeout") {
    const client c = launch();
    const process p = c.spawn({.program = "sleep", .args = {"infinity"}});
    std::atomic<int> told = 0, timed_out = 0;
    std::thread killer;
    in_threads(9, [&](int thread) {
        if (thread == 8) {
            while (timed_out < 4) std::this_thread::yield();
            p.terminate();
        } else if (thread % 2 == 0) {
            if (!p.wait_for(5ms)) ++timed_out;
        } else if (p.wait().signal() == SIGKILL) {
            ++told;
        }
    });
    CHECK(told == 4);
}

TEST_CASE("blocking and asynchronous calls mix on one client without a lost wake-up") {
    running_context context(2);
    const client c = launch(context.io.get_executor());
    std::atomic<int> wrong = 0;
    in_threads(6, [&](int thread) {
        std::minstd_rand random(static_cast<unsigned>(thread + 1));
        for (int i = 0; i < 100; ++i) {
            const int code = static_cast<int>(random() % 200);
            const spawn_options o = shell("exit " + std::to_string(code));
            process p =
                random() % 2 == 0 ? c.spawn(o) : c.async_spawn(o, boost::asio::use_future).get();
            switch (random() % 4) {
                case 0: wrong += p.wait().code() != code; break;
                case 1: wrong += p.async_wait(boost::asio::use_future).get().code() != code; break;
                case 2: {
                    auto first = p.async_wait(boost::asio::use_future);
                    wrong += p.wait().code() != code;
                    wrong += first.get().code() != code;
                    break;
                }
                default: {
                    (void)c.list();
                    while (!p.wait_for(1ms)) (void)c.async_stats(boost::asio::use_future).get();
                    wrong += p.status()->code() != code;
                }
            }
        }
    });
    CHECK(wrong == 0);
    CHECK(c.stats().children == 0);
}

TEST_CASE("destroying the client wakes threads that wait for its children") {
    client c = launch();
    const process p = c.spawn({.program = "sleep", .args = {"infinity"}});
    std::atomic<int> woken = 0;
    std::vector<std::thread> waiting;
    for (int i = 0; i < 4; ++i)
        waiting.emplace_back([&] {
            // SIGTERM by the lifetime; a zombie's end is seen once it was reaped.
            if (p.wait().signal() == SIGTERM) ++woken;
        });
    c = client();
    for (std::thread& t : waiting) t.join();
    CHECK(woken == 4);
}
