#include "client/python/src/forks.hpp"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <vector>

namespace cleanfork::python {

namespace {

std::atomic<unsigned> generation{0};

// Never destroyed: the handlers outlive every static object.
struct registry {
    std::mutex mutex;
    std::vector<int> sockets;
};
registry& known() {
    static auto* const all = new registry;
    return *all;
}

void before_fork() { known().mutex.lock(); }
void in_parent() { known().mutex.unlock(); }
void in_child() {
    generation.fetch_add(1, std::memory_order_relaxed);
    for (const int fd : known().sockets) ::close(fd);
    known().sockets.clear();
    known().mutex.unlock();
}

}  // namespace

unsigned fork_generation() noexcept { return generation.load(std::memory_order_relaxed); }

void watch_forks() {
    static const int once = (known(), ::pthread_atfork(before_fork, in_parent, in_child));
    (void)once;
}

parent_only_socket::parent_only_socket(int fd) : fd_(fd) {
    const std::lock_guard lock(known().mutex);
    known().sockets.push_back(fd);
}

// In a child the number may by now be another socket, registered on its own.
parent_only_socket::~parent_only_socket() {
    if (made_in_ != fork_generation()) return;
    const std::lock_guard lock(known().mutex);
    auto& all = known().sockets;
    if (const auto at = std::find(all.begin(), all.end(), fd_); at != all.end()) all.erase(at);
}

}  // namespace cleanfork::python
