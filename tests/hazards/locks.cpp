// Group 3: locks that are copied locked, and whose owner is not.
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>

#include "tests/hazards/scene.hpp"

namespace hazards {

namespace {

// ---- malloc

void allocate(unsigned seed) {
    void* blocks[64];
    for (unsigned i = 0; i < 64; ++i) blocks[i] = std::malloc(16 + (seed * 7919 + i * 131) % 3000);
    for (void* b : blocks) std::free(b);
}

const job use_malloc("use_malloc", [](const task&) {
    for (unsigned i = 0; i < 100; ++i) allocate(i);
    return 0;
});

void malloc_while_busy(const scene& s) {
    const busy threads(4, &allocate);
    s.all(use_malloc, {});
}
const registration by_malloc({3, "malloc", "malloc, used by busy threads", 100, 300,
                              &malloc_while_busy});

// ---- stdio

std::FILE* log_file = nullptr;

const job write_log("write_log", [](const task& t) {
    if (log_file == nullptr) log_file = ::fdopen(::dup(t.fd("log")), "w");
    std::fprintf(log_file, "child %d\n", 1);
    return std::fflush(log_file) == 0 ? 0 : 1;
});

void log_while_busy(const scene& s) {
    const cleanfork::unique_fd nowhere(::open("/dev/null", O_WRONLY | O_CLOEXEC));
    log_file = ::fdopen(::dup(nowhere.get()), "w");
    {
        const busy threads(4, [](unsigned i) { std::fprintf(log_file, "parent %u\n", i); });
        s.all(write_log, {.fds = {{"log", nowhere.get()}}});
    }
    std::fclose(std::exchange(log_file, nullptr));
}
const registration by_stdio({3, "stdio-lock", "stdio's lock, held by busy threads", 100, 300,
                             &log_while_busy});

// fflush(nullptr) holds the list of streams while it waits for one that a thread
// reads; fork(2) of the C library wants that list.
const job nothing("nothing", [](const task&) { return 0; });

// True once the thread sleeps in a system call.
bool asleep(pid_t thread) {
    const std::string path = "/proc/self/task/" + std::to_string(thread) + "/stat";
    const cleanfork::unique_fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    const std::string text = read_all(file.get());
    const auto end = text.rfind(')');
    return end != std::string::npos && text.at(end + 2) == 'S';
}

// A thread that has gone to sleep by the time this returns. It is not waited for.
void start_sleeper(void (*function)(std::FILE*), std::FILE* stream) {
    std::atomic<pid_t> tid = 0;
    std::thread([&tid, function, stream] {
        tid = ::gettid();
        tid.notify_all();
        function(stream);
    }).detach();
    tid.wait(0);
    while (!asleep(tid)) std::this_thread::yield();
}

void fork_while_flushing(const scene& s) {
    const pipe_ends input = make_pipe();  // where nothing comes
    std::FILE* stream = ::fdopen(::dup(input.read.get()), "r");
    start_sleeper([](std::FILE* f) { std::getc(f); }, stream);
    start_sleeper([](std::FILE*) { std::fflush(nullptr); }, nullptr);
    const ending e = s.start(nothing).wait();
    s.tell(e.success() ? verdict() : damage{"hung", "the child: " + e.text()});
    ::_exit(0);  // the threads are there for good
}
const registration by_list({3, "stdio-list", "fork() itself, while fflush(NULL) waits", 20, 200,
                            &fork_while_flushing, 20});

// ---- a mutex of the program

std::mutex registry;
int registered = 0;

const job use_registry("use_registry", [](const task&) {
    const std::lock_guard lock(registry);
    ++registered;
    return 0;
});

void use_while_busy(unsigned) {
    {
        const std::lock_guard lock(registry);
        ++registered;
        spin(50us);
    }
    spin(50us);
}

void lock_while_busy(const scene& s) {
    const busy threads(2, &use_while_busy);
    s.all(use_registry, {});
}
const registration by_mutex({3, "mutex", "a std::mutex, held by busy threads", 100, 300,
                             &lock_while_busy});

// ---- at-fork handlers

// A library that tells its registry of the new process.
void hook_in_child() {
    const std::lock_guard lock(registry);
    ++registered;
}

void hook_while_busy(const scene& s) {
    ::pthread_atfork(nullptr, nullptr, &hook_in_child);
    const busy threads(2, &use_while_busy);
    s.all(nothing, {});
}
const registration by_child_hook({3, "atfork-child", "an at-fork handler that takes a busy lock",
                                  100, 300, &hook_while_busy});

// Two libraries that do it by the book: each takes its lock before the fork and
// lets go of it after. The later one's handler runs first, and another thread
// takes the two in the other order.
std::mutex first, second;

void fork_against_order(const scene& s) {
    ::pthread_atfork([] { first.lock(); }, [] { first.unlock(); }, [] { first.unlock(); });
    ::pthread_atfork([] { second.lock(); }, [] { second.unlock(); }, [] { second.unlock(); });
    std::thread([] {
        for (;;) {
            const std::lock_guard one(first);
            spin(200us);
            const std::lock_guard two(second);
            spin(10us);
        }
    }).detach();
    spin(1000us);
    for (int i = 0; i < 10; ++i) {
        const ending e = s.start(nothing).wait();
        if (e.success()) continue;
        s.tell(damage{"hung", "the child: " + e.text()});
        ::_exit(0);
    }
    s.tell({});
    ::_exit(0);
}
const registration by_order({3, "atfork-order", "at-fork handlers and a thread: lock order", 20,
                             200, &fork_against_order, 20});

}  // namespace

}  // namespace hazards
