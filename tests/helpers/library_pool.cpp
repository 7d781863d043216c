// A library with a pool of threads, which it starts when it is loaded, as OpenBLAS does. What
// becomes of them at a fork is chosen by POOL_AT_FORK:
//   ends      they are ended and joined before the fork, and started again when needed
//   returns   likewise, and started again in the parent at once
//   late      they are told to end, and do so a moment after the fork
//   spent     returns, but for the third fork and those after it, at which they stay
//   stays     nothing ends them
//   hangs     ends, but the handler in the child waits for ever
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr int k_threads = 2;

std::string at_fork() {
    const char* value = std::getenv("POOL_AT_FORK");
    return value != nullptr ? value : "ends";
}

struct pool {
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<std::thread> threads;
    bool ending = false;
    int asked = 0, done = 0;
    long sum = 0;

    void work(int number) {
        std::unique_lock lock(mutex);
        for (int seen = 0;;) {
            changed.wait(lock, [&] { return ending || asked != seen; });
            if (ending) return;
            seen = asked;
            for (long i = number; i < 1000; i += k_threads) sum += i;
            ++done;
            changed.notify_all();
        }
    }
    void start() {
        ending = false;
        asked = done = 0;
        for (int i = 0; i < k_threads; ++i) threads.emplace_back([this, i] { work(i); });
    }
    void end(bool join) {
        {
            const std::lock_guard lock(mutex);
            ending = true;
        }
        changed.notify_all();
        for (std::thread& t : threads) join ? t.join() : t.detach();
        threads.clear();
    }
};
pool* one = nullptr;
int forks = 0;

void before() {
    const std::string how = at_fork();
    ++forks;
    if (how == "stays" || (how == "spent" && forks >= 3)) return;
    if (!one->threads.empty()) one->end(how != "late");
}

void in_parent() {
    const std::string how = at_fork();
    if ((how == "returns" || how == "spent") && one->threads.empty()) one->start();
}

// What the threads of the parent have left, the child leaves alone.
void in_child() {
    one = new pool;
    while (at_fork() == "hangs") ::pause();
}

[[gnu::constructor]] void load() {
    one = new pool;
    one->start();
    ::pthread_atfork(before, in_parent, in_child);
}

}  // namespace

// The sum of the numbers below 1,000, by as many threads as pool_threads() says.
extern "C" [[gnu::visibility("default")]] long pool_sum() {
    if (one->threads.empty()) one->start();
    std::unique_lock lock(one->mutex);
    one->sum = 0;
    one->done = 0;
    ++one->asked;
    one->changed.notify_all();
    one->changed.wait(lock, [] { return one->done == k_threads; });
    return one->sum;
}
extern "C" [[gnu::visibility("default")]] int pool_threads() {
    return static_cast<int>(one->threads.size());
}
