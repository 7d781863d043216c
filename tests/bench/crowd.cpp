#include "tests/bench/crowd.hpp"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <new>
#include <stdexcept>
#include <thread>
#include <vector>

#include "tests/bench/contenders.hpp"
#include "tests/bench/measure.hpp"

namespace bench {

namespace {

using nlohmann::json;

constexpr int k_crowd = 1000;
constexpr int k_looked_at = 20;  // of them, for their memory: reading it takes the kernel long

struct of_crowd {
    double ms = 0;
    double private_mib = 0;
};

double private_mib(const std::vector<pid_t>& pids) {
    double sum = 0;
    int count = 0;
    for (std::size_t i = 0; i < pids.size(); i += pids.size() / k_looked_at)
        if (const auto m = cleanfork::memory_of(pids[i])) {
            sum += static_cast<double>(m->private_dirty_kib) / 1024;
            ++count;
        }
    if (count == 0) throw std::runtime_error("the memory of no child could be read");
    return sum / count;
}

double ms_since(std::chrono::steady_clock::time_point begin) {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin)
        .count();
}

of_crowd forked_crowd() {
    void* const at =
        ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) throw std::runtime_error("no shared page");
    auto& running = *new (at) std::atomic<int>(0);
    std::vector<pid_t> pids;
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < k_crowd; ++i) {
        const pid_t pid = ::fork();
        if (pid == 0) {
            running.fetch_add(1);
            for (;;) ::pause();
        }
        if (pid < 0) throw std::runtime_error("fork");
        pids.push_back(pid);
    }
    while (running.load() != k_crowd) ::sched_yield();
    of_crowd found{ms_since(begin), private_mib(pids)};
    for (const pid_t pid : pids) ::kill(pid, SIGKILL);
    for (const pid_t pid : pids) ::waitpid(pid, nullptr, 0);
    ::munmap(at, 4096);
    return found;
}

// That its entry is about to run is told by the child itself.
of_crowd called_crowd(const cleanfork::client& client, boost::asio::io_context& io) {
    std::vector<cleanfork::process> all;
    const auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < k_crowd; ++i)
        client.async_call("crowd", "sleep", {}, {},
                          [&](std::exception_ptr e, cleanfork::process p) {
                              if (e) std::rethrow_exception(e);
                              all.push_back(std::move(p));
                          });
    io.restart();
    while (all.size() != k_crowd) io.run_one();
    of_crowd found;
    found.ms = ms_since(begin);
    std::vector<pid_t> pids;
    for (const cleanfork::process& p : all) pids.push_back(p.id());
    found.private_mib = private_mib(pids);
    for (const cleanfork::process& p : all) p.terminate();
    for (const cleanfork::process& p : all) (void)p.wait();
    return found;
}

}  // namespace

json crowd(const cleanfork::client& client, boost::asio::io_context& io, goals& judged) {
    std::printf("(g) %d children at once\n", k_crowd);
    client.add_template("crowd",
                        {.process = {.program = CLEANFORK_TEST_HELPER_DIR "/template_program"}});
    std::vector<double> ours, theirs, ratios;
    of_crowd called, forked;
    for (int round = 0; round < 3; ++round) {
        forked = forked_crowd();
        called = called_crowd(client, io);
        theirs.push_back(forked.ms);
        ours.push_back(called.ms);
        ratios.push_back(called.ms / forked.ms);
    }
    client.remove_template("crowd");
    for (auto* v : {&ours, &theirs, &ratios}) std::sort(v->begin(), v->end());
    std::printf(
        "  until all run: fork %.1f ms, calls %.1f ms: %.2f x (median of 3 pairs)\n"
        "  private memory of one: fork %.2f MiB, call %.2f MiB\n",
        theirs[1], ours[1], ratios[1], forked.private_mib, called.private_mib);
    judged.measured("crowd", ratios[1]);
    judged.measured("crowd_memory", called.private_mib);
    return {{"fork_ms", theirs[1]},
            {"calls_ms", ours[1]},
            {"ratio", ratios[1]},
            {"fork_private_mib", forked.private_mib},
            {"call_private_mib", called.private_mib}};
}

// ---- the caller's own work ---------------------------------------------------

namespace {

constexpr std::size_t k_heap = std::size_t{256} << 20;
constexpr std::size_t k_page = 4096;
constexpr std::size_t k_pages_of_work = 16;

// Some pages written, here and there: what a copy of this process makes dear.
figure own_work(char* heap, const std::string& name, std::size_t rounds) {
    std::vector<double> samples;
    std::size_t at = 0;
    for (std::size_t round = 0; round < rounds; ++round) {
        const auto took = timed([&] {
            for (std::size_t i = 0; i < k_pages_of_work; ++i) {
                at = (at + 7919 * k_page) % k_heap;
                ++heap[at];
            }
        });
        samples.push_back(static_cast<double>(took.count()) / 1000.0);
    }
    return summary(name, std::move(samples));
}

figure beside(char* heap, const std::string& name, std::size_t rounds,
              const std::function<void()>& start) {
    std::atomic<bool> stop{false};
    std::thread starts([&] {
        while (start && !stop.load()) start();
    });
    figure f = own_work(heap, name, rounds);
    stop = true;
    starts.join();
    return f;
}

}  // namespace

json callers_tail(const cleanfork::client& client, const std::string& program, std::size_t rounds,
                  goals& judged) {
    std::printf("(h) a caller with 256 MiB writes 16 pages while it starts children\n");
    void* const at =
        ::mmap(nullptr, k_heap, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) throw std::runtime_error("no memory to work on");
    ::madvise(at, k_heap, MADV_NOHUGEPAGE);
    std::memset(at, 1, k_heap);
    char* const heap = static_cast<char*>(at);
    const std::size_t n = rounds * 100;
    const std::vector<figure> all{
        beside(heap, "without", n, {}),
        beside(heap, "fork + exec", n / 10, [&] { fork_and_exec(program); }),
        beside(heap, "posix_spawn", n, [&] { posix_spawn_and_wait(program); }),
        beside(heap, "cleanfork spawn + wait", n,
               [&] { cleanfork_spawn_and_wait(client, program); })};
    ::munmap(at, k_heap);
    judged.measured("caller_p99", all.back().p99_us / all.front().p99_us);
    return to_json(all, "without");
}

}  // namespace bench
