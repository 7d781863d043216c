// ./dev bench: the figures of the README, each against its contenders in the same run.
//
// Prints tables, at the end the goals (goals.json), and writes bench.json. --quick: a tenth of the
// rounds; --templates, --execs: those figures alone.
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <latch>
#include <system_error>
#include <thread>

#include "tests/bench/contenders.hpp"
#include "tests/bench/crowd.hpp"
#include "tests/bench/goals.hpp"
#include "tests/bench/measure.hpp"
#include "tests/bench/templates.hpp"

namespace {

using bench::contender;
using bench::figure;
using bench::timed;
using bench::to_json;
using nlohmann::json;

constexpr std::size_t k_4_gib = std::size_t{4} << 30;
constexpr int k_pairs = 5;

struct setting {
    std::size_t rounds;
    std::string nothing;  // static, no libc
    cleanfork::client client;
    boost::asio::io_context& io;
    bench::goals judged{};
};

std::vector<contender> everybody(setting& s, const std::string& program) {
    return {
        {"posix_spawn",
         [&s, program] { return timed([&] { bench::posix_spawn_and_wait(program); }); }},
        {"cleanfork run",
         [&s, program] { return timed([&] { bench::cleanfork_run(s.client, program); }); }},
        {"cleanfork spawn + wait",
         [&s, program] {
             return timed([&] { bench::cleanfork_spawn_and_wait(s.client, program); });
         }},
        {"Boost.Process v2",
         [&s, program] { return timed([&] { bench::boost_process_and_wait(s.io, program); }); }},
        {"vfork + exec (floor)",
         [program] { return timed([&] { bench::vfork_and_exec(program); }); }},
    };
}

json latency(setting& s, const char* title, const std::string& program, std::size_t rounds,
             const char* goal = nullptr) {
    std::printf("%s, %s\n", title,
                program == s.nothing ? "static program without libc" : program.c_str());
    const auto figures = bench::alternate(everybody(s, program), rounds);
    if (goal != nullptr)
        s.judged.measured(goal, bench::ratio(figures, "cleanfork run", "posix_spawn"));
    return to_json(figures, "posix_spawn");
}

// A parent whose threads change its address space all the time.
class busy_threads {
public:
    explicit busy_threads(int n) {
        for (int i = 0; i < n; ++i)
            threads_.emplace_back([this] {
                while (!stop_.load(std::memory_order_relaxed)) {
                    constexpr std::size_t k_size = 64 * 4096;
                    void* p = ::mmap(nullptr, k_size, PROT_READ | PROT_WRITE,
                                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                    for (std::size_t at = 0; at < k_size; at += 4096) static_cast<char*>(p)[at] = 1;
                    ::munmap(p, k_size);
                }
            });
    }
    ~busy_threads() {
        stop_ = true;
        for (std::thread& t : threads_) t.join();
    }

private:
    std::atomic<bool> stop_{false};
    std::vector<std::thread> threads_;
};

json large_heap(setting& s) {
    std::printf("(c) from a parent with 4 GiB touched\n");
    void* heap =
        ::mmap(nullptr, k_4_gib, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (heap == MAP_FAILED) throw std::runtime_error("no 4 GiB to be had");
    ::madvise(heap, k_4_gib, MADV_NOHUGEPAGE);
    std::memset(heap, 1, k_4_gib);
    auto list = everybody(s, s.nothing);
    list.push_back(
        {"fork + exec", [&s] { return timed([&] { bench::fork_and_exec(s.nothing); }); }, 20});
    std::erase_if(list, [](const contender& c) { return c.name == "Boost.Process v2"; });
    const json rows = to_json(bench::alternate(list, 200), "fork + exec");
    ::munmap(heap, k_4_gib);
    return rows;
}

double median(std::vector<double> v) {
    std::sort(v.begin(), v.end());
    return v.at(v.size() / 2);
}

json in_flight(setting& s, const char* title, const char* goal = nullptr) {
    std::printf("%s\n", title);
    std::vector<double> theirs, ours, ratios;
    const int total = static_cast<int>(s.rounds) * 2;
    for (int round = 0; round < k_pairs; ++round) {
        theirs.push_back(bench::posix_spawn_rate(s.nothing, total, 16));
        ours.push_back(bench::cleanfork_rate(s.client, s.io, s.nothing, total, 16));
        ratios.push_back(ours.back() / theirs.back());
    }
    const double least = *std::min_element(ratios.begin(), ratios.end());
    if (goal != nullptr) s.judged.measured(goal, least);
    std::printf(
        "  posix_spawn %.0f/s, cleanfork %.0f/s: %.2f x (median of %d pairs, %.2f at least)\n",
        median(theirs), median(ours), median(ratios), k_pairs, least);
    std::fflush(stdout);
    return {{"posix_spawn_per_s", median(theirs)},
            {"cleanfork_per_s", median(ours)},
            {"ratio", median(ratios)},
            {"least_ratio", least}};
}

// The completion handlers run on another thread: what is measured is what the
// calling thread spends to hand over `burst` spawns, one after the other.
std::chrono::nanoseconds hand_over(const setting& s, int burst) {
    const cleanfork::spawn_options options{.program = s.nothing};
    std::latch ended(burst);
    const auto before = bench::thread_cpu();
    for (int i = 0; i < burst; ++i)
        s.client.async_spawn(options, [&](std::exception_ptr failed, cleanfork::process p) {
            if (failed) std::rethrow_exception(failed);
            auto kept = std::make_shared<cleanfork::process>(std::move(p));
            kept->async_wait([&, kept](boost::system::error_code, const cleanfork::exit_status&) {
                ended.count_down();
            });
        });
    const auto used = bench::thread_cpu() - before;
    ended.wait();
    return used / burst;
}

json calling_thread(setting& s) {
    std::printf("(e) CPU time of the calling thread, one asynchronous spawn\n");
    s.io.restart();
    auto work = boost::asio::make_work_guard(s.io);
    std::thread runner([&] { s.io.run(); });
    const auto figures = bench::alternate(
        {{"posix_spawn", [&s] { return bench::posix_spawn_cpu(s.nothing); }},
         {"cleanfork async_spawn", [&s] { return hand_over(s, 1); }},
         {"cleanfork async_spawn, 16 in a row", [&s] { return hand_over(s, 16); }, 4}},
        s.rounds);
    work.reset();
    runner.join();
    s.judged.measured("caller_cpu", bench::ratio(figures, "cleanfork async_spawn", "posix_spawn"));
    return to_json(figures, "posix_spawn");
}

// The forks it is compared with resolve no function anew, as templates do not: each that this
// program had not called before would cost their child a page.
void bind_now(char** argv) {
    if (::getenv("LD_BIND_NOW") != nullptr) return;
    ::setenv("LD_BIND_NOW", "1", 1);
    ::execv("/proc/self/exe", argv);
    throw std::system_error(errno, std::generic_category(), "exec of itself");
}

void calls(setting& s, json& out) {
    out["templates"] = bench::templates(s.client, s.io, s.rounds, s.judged);
    out["crowd"] = bench::crowd(s.client, s.io, s.judged);
}

void programs(setting& s, json& out) {
    out["idle"]["nothing"] =
        latency(s, "(a) from an idle small parent", s.nothing, s.rounds, "exec_exit");
    out["idle"]["true"] = latency(s, "(a) from an idle small parent", "/bin/true", s.rounds / 2);
    out["in_flight_16"] =
        in_flight(s, "(d) 16 in flight, idle parent, static program without libc", "exec_rate");
    out["calling_thread_cpu"] = calling_thread(s);
}

void programs_of_busy_parents(setting& s, json& out) {
    {
        const busy_threads busy(8);
        out["busy"]["nothing"] = latency(s, "(b) from a parent with 8 threads that mmap and munmap",
                                         s.nothing, s.rounds / 2);
        out["busy"]["true"] = latency(s, "(b) from a parent with 8 threads that mmap and munmap",
                                      "/bin/true", s.rounds / 4);
        out["busy"]["in_flight_16"] = in_flight(s, "(b) the same, 16 in flight");
    }
    out["large_heap"] = large_heap(s);
    out["callers_tail"] = bench::callers_tail(s.client, s.nothing, s.rounds, s.judged);
}

}  // namespace

int main(int argc, char** argv) {
    bind_now(argv);
    const std::string_view mode = argc > 1 ? argv[1] : "";
    boost::asio::io_context io;
    // First of all, while this process is small and has one thread.
    setting s{mode == "--quick" ? 100U : 1000U, CLEANFORK_TEST_HELPER_DIR "/nothing",
              cleanfork::launch(io.get_executor()), io};
    json out;
    // While this process is small: its own size is a part of what is compared.
    if (mode != "--execs") calls(s, out);
    if (mode != "--templates") programs(s, out);
    if (mode != "--execs" && mode != "--templates") programs_of_busy_parents(s, out);
    out["goals"] = s.judged.report();
    if (mode == "--execs" || mode == "--templates") return 0;
    std::ofstream("bench.json") << out.dump(2) << '\n';
    std::printf("written to bench.json\n");
}
