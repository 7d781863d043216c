// Spawns from a process that is in the midst of gRPC: server, client, and eight
// threads that do calls while others spawn.
#include <dirent.h>
#include <doctest/doctest.h>
#include <sys/wait.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>
#include <cleanfork/client.hpp>
#include <csignal>
#include <fstream>
#include <future>

#include "ipc/base/fd.hpp"
#include "ipc/base/sys.hpp"
#include "tests/grpc/busy_threads.hpp"
#include "tests/helpers/patience.hpp"

using namespace cleanfork;
using namespace cleanfork::test;
using namespace std::chrono_literals;

namespace {

spawn_options shell(std::string command) {
    return {.program = "sh", .args = {"-c", std::move(command)}};
}

// One of these for each kind of end; what is wrong with it, or nothing.

std::string exits(const client& c, unsigned i) {
    const int code = static_cast<int>(i % 256);
    const process p = c.spawn(shell("exit " + std::to_string(code)), k_patience);
    const auto status = p.wait_for(k_patience);
    return status == exit_status::exited(code) ? "" : "exit: " + status.value().to_string();
}

std::string dies(const client& c, unsigned i) {
    const int signal = std::array{SIGKILL, SIGTERM, SIGUSR1, SIGHUP}[i % 4];
    const process p = c.spawn(shell("kill -" + std::to_string(signal) + " $$"), k_patience);
    const auto status = p.wait_for(k_patience);
    return status == exit_status::signaled(signal, false) ? ""
                                                          : "kill: " + status.value().to_string();
}

std::string is_killed(const client& c, unsigned) {
    process p = c.spawn({.program = "cat", .in = stdio::pipe{}}, k_patience);
    p.terminate();
    const auto status = p.wait_for(k_patience);
    return status == exit_status::signaled(SIGKILL, false) ? ""
                                                           : "cat: " + status.value().to_string();
}

std::string answers(const client& c, unsigned i) {
    const std::string text(i * 37 % 200'000, 'a');
    const run_result r =
        c.run({.program = "cat", .in = stdio::pipe{}, .out = stdio::pipe{}}, text, k_patience);
    return r.status.success() && r.out == text ? "" : "run: " + r.status.to_string();
}

std::string answers_later(const client& c, unsigned i) {
    const std::string text = std::to_string(i);
    std::future<run_result> done = c.async_run(
        {.program = "echo", .args = {text}, .out = stdio::pipe{}}, "", boost::asio::use_future);
    if (done.wait_for(k_patience) != std::future_status::ready) return "async_run hangs";
    const run_result r = done.get();
    return r.status.success() && r.out == text + "\n" ? "" : "async_run: " + r.status.to_string();
}

std::string is_missing(const client& c, unsigned) {
    const auto p = c.try_spawn({.program = "/no/such/program"}, k_patience);
    if (p) return "a missing program was spawned";
    return p.error().step == step::exec && p.error().error_number == ENOENT ? ""
                                                                            : p.error().message();
}

using kind = std::string (*)(const client&, unsigned);
constexpr std::array<kind, 6> k_kinds = {exits,   dies,          is_killed,
                                         answers, answers_later, is_missing};

// `total` spawns of all kinds in turn, from several threads; the complaints.
std::vector<std::string> spawn_all(const client& c, unsigned total, unsigned threads) {
    std::atomic<unsigned> next = 0;
    std::mutex mutex;
    std::vector<std::string> complaints;
    const auto work = [&] {
        for (unsigned i = next++; i < total; i = next++) {
            std::string wrong;
            try {
                wrong = k_kinds[i % k_kinds.size()](c, i);
            } catch (const std::exception& e) {
                wrong = e.what();
            }
            if (wrong.empty()) continue;
            const std::lock_guard lock(mutex);
            complaints.push_back(std::to_string(i) + ": " + wrong);
        }
    };
    std::vector<std::jthread> all;
    for (unsigned i = 0; i < threads; ++i) all.emplace_back(work);
    all.clear();
    return complaints;
}

// The processes whose parent is `parent`, zombies too, but for the one that is between a program
// and its forkserver: of that the program has no notice.
std::size_t children_of(pid_t parent) {
    std::size_t found = 0;
    const std::unique_ptr<DIR, int (*)(DIR*)> proc(::opendir("/proc"), &::closedir);
    REQUIRE(proc);
    while (const dirent* e = ::readdir(proc.get())) {
        std::ifstream stat("/proc/" + std::string(e->d_name) + "/stat");
        std::string text;
        if (!std::getline(stat, text)) continue;
        if (text.find("(cleanfork-wait)") != text.npos) continue;
        // The name before the last ')' may hold anything; then state and parent.
        const std::string rest = text.substr(text.rfind(')') + 4);
        if (std::stoi(rest) == parent) ++found;
    }
    return found;
}

// A client whose asynchronous operations a thread of its own completes.
struct running_client {
    boost::asio::io_context io;
    const client c = launch(io.get_executor());
    boost::asio::executor_work_guard<boost::asio::io_context::executor_type> stay{
        io.get_executor()};
    std::jthread loop{[this] { io.run(); }};
    ~running_client() { io.stop(); }
};

void spawn_from_a_busy_parent(unsigned total) {
    // First of all, as a program does: before gRPC has a thread or a socket.
    const running_client running;
    const client& c = running.c;
    const busy_threads busy(8);
    REQUIRE(spawn_all(c, 12, 1) == std::vector<std::string>());  // what is lazy is there now
    const server_stats before = c.stats();
    const std::size_t descriptors = ipc::open_descriptor_count();
    const std::uint64_t calls = busy.calls();

    CHECK(spawn_all(c, total, 4) == std::vector<std::string>());

    CHECK(busy.calls() > calls + 8);
    CHECK(busy.complaint() == "");
    CHECK(ipc::open_descriptor_count() == descriptors);
    const server_stats after = c.stats();
    CHECK(after.spawned_total + after.failed_total ==
          before.spawned_total + before.failed_total + total);
    CHECK(after.exited_total == after.spawned_total);
    CHECK(after.children == 0);
    CHECK(after.statuses == 0);
    CHECK(after.queued == 0);
    CHECK(after.sessions == 1);
    CHECK(after.protocol_errors_total == 0);
    CHECK(after.descriptors == before.descriptors);
    CHECK(children_of(c.server().pid) == 0);
    CHECK(children_of(::getpid()) == 0);
}

}  // namespace

TEST_CASE("a parent with gRPC in eight threads spawns a thousand times: nothing hangs or stays") {
    spawn_from_a_busy_parent(1000);
}

TEST_CASE("a parent with gRPC in eight threads spawns five thousand times" *
          doctest::test_suite("soak") * doctest::skip()) {
    spawn_from_a_busy_parent(5000);
}

TEST_CASE("a forkserver started from the midst of gRPC serves as well, and the calls go on") {
    const busy_threads busy(8);
    const running_client running;
    CHECK(spawn_all(running.c, 60, 4) == std::vector<std::string>());
    const process p = running.c.spawn({.program = "cat", .in = stdio::pipe{}}, k_patience);
    const std::uint64_t calls = busy.calls();
    while (busy.calls() < calls + 100 && busy.complaint().empty()) std::this_thread::yield();
    CHECK(busy.complaint() == "");
    CHECK(p.running());
}
