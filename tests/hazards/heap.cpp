// Group 7: the requests of a parent with a big heap, while it starts children.
//
// A fork copies the page tables and makes every page of the parent read-only, so that
// its own writes fault afterwards; meanwhile nobody in it can map memory or take a fault.
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <mutex>
#include <stdexcept>

#include "tests/grpc/echo.hpp"
#include "tests/hazards/scene.hpp"

namespace hazards {

namespace {

using clock = std::chrono::steady_clock;
using ms = std::chrono::duration<double, std::milli>;

constexpr std::size_t k_heap = std::size_t{1} << 30;
constexpr std::size_t k_page = 4096;
constexpr milliseconds k_window = 40ms;

// Touched once, in pages of 4 KiB as a heap of many small objects has them.
class big_heap {
public:
    big_heap() {
        void* m =
            ::mmap(nullptr, k_heap, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (m == MAP_FAILED) throw std::runtime_error("no memory for the heap");
        ::madvise(m, k_heap, MADV_NOHUGEPAGE);
        begin_ = static_cast<unsigned char*>(m);
        for (std::size_t at = 0; at < k_heap; at += k_page) begin_[at] = 1;
    }
    big_heap(const big_heap&) = delete;
    big_heap& operator=(const big_heap&) = delete;
    ~big_heap() { ::munmap(begin_, k_heap); }
    // What a request does: changes a few objects, and allocates a buffer for a moment.
    void use(std::uint64_t request) {
        for (std::uint64_t i = 0; i < 8; ++i) ++begin_[(request * 8 + i) * 7919 * k_page % k_heap];
        void* buffer = ::mmap(nullptr, 16 * k_page, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        if (buffer != MAP_FAILED) ::munmap(buffer, 16 * k_page);
    }

private:
    unsigned char* begin_;
};

// Requests of a thread, one after the other: when they began and how long they took.
class requests {
public:
    requests() : caller_(server_.address()) {
        if (!caller_.call(0).empty()) throw std::runtime_error("the echo server does not answer");
        thread_ = std::jthread([this](const std::stop_token& stop) {
            for (std::uint64_t i = 1; !stop.stop_requested(); ++i) {
                const auto begin = clock::now();
                heap_.use(i);
                if (!caller_.call(i % 64).empty()) return;
                const std::lock_guard lock(mutex_);
                taken_.push_back({begin, clock::now()});
            }
        });
    }
    // Milliseconds of those that overlap with [begin, end), which has passed.
    std::vector<double> between(clock::time_point begin, clock::time_point end) {
        for (;;) {  // the last of them may still be under way
            const std::lock_guard lock(mutex_);
            if (!taken_.empty() && taken_.back().second >= end) break;
        }
        const std::lock_guard lock(mutex_);
        std::vector<double> found;
        for (const auto& [from, to] : taken_)
            if (to >= begin && from < end) found.push_back(ms(to - from).count());
        taken_.clear();
        return found;
    }

private:
    cleanfork::test::echo_server server_;
    cleanfork::test::echo_caller caller_;
    big_heap heap_;
    std::mutex mutex_;
    std::vector<std::pair<clock::time_point, clock::time_point>> taken_;
    std::jthread thread_;
};

void start_true(const scene& s) {
    static char program[] = "/bin/true";
    static char* const words[] = {program, nullptr};
    if (s.by() == way::cleanfork) {
        s.forkserver().spawn({.program = program}).wait();
        return;
    }
    pid_t pid = -1;
    if (s.by() == way::posix_spawn) {
        ::posix_spawn(&pid, program, nullptr, nullptr, words, ::environ);
    } else if ((pid = ::fork()) == 0) {
        ::execv(program, words);
        ::_exit(127);
    }
    ::waitpid(pid, nullptr, 0);
}

double quantile(std::vector<double> values, double q) {
    std::sort(values.begin(), values.end());
    return values.empty()
               ? 0
               : values[static_cast<std::size_t>(q * static_cast<double>(values.size() - 1))];
}

struct window {
    std::vector<double> requests;
    [[nodiscard]] double worst() const { return quantile(requests, 1); }
};

window watch(requests& r, const std::function<void()>& what) {
    const auto begin = clock::now();
    what();
    std::this_thread::sleep_until(begin + k_window);
    return {r.between(begin, clock::now())};
}

std::string in_ms(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.1f ms", value);
    return text;
}

constexpr int k_starts = 8;

// A try is eight windows with a start each, between quiet ones. The figure of each is its
// worst request, and the lower quartile stands for all: the heap is there at every start,
// the noise of a busy machine is not. Damaged: over 10 ms, and three times that without.
void pause_requests(const scene& s) {
    requests r;
    std::vector<double> all, all_quiet;
    s.each([&](unsigned) -> verdict {
        std::vector<double> started, quiet;
        for (int i = 0; i < k_starts; ++i) {
            const window without = watch(r, [] {}), with = watch(r, [&] { start_true(s); });
            quiet.push_back(without.worst());
            started.push_back(with.worst());
            all_quiet.insert(all_quiet.end(), without.requests.begin(), without.requests.end());
            all.insert(all.end(), with.requests.begin(), with.requests.end());
        }
        const double pause = quantile(started, 0.25), before = quantile(quiet, 0.25);
        s.figure("worst_request_at_a_start,_ms", pause);
        if (pause <= 10 || pause <= 3 * before) return {};
        return damage{"paused", "the worst request at a start takes " + in_ms(pause) + ", " +
                                    in_ms(before) + " without"};
    });
    s.figure("p50_of_requests_at_starts,_ms", quantile(all, 0.5));
    s.figure("p99_of_requests_at_starts,_ms", quantile(all, 0.99));
    s.figure("p99_of_requests_without,_ms", quantile(all_quiet, 0.99));
    s.end_here();
}
const registration paused({7, "big-heap", "a gRPC server of 1 GiB: its requests wait", 4, 8,
                           &pause_requests});

}  // namespace

}  // namespace hazards
