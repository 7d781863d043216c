// Group 6: gRPC. A server and channels live and busy in the parent, and a child
// that wants nothing but gRPC of its own.
#include <cstdlib>
#include <memory>

#include "tests/grpc/busy_threads.hpp"
#include "tests/hazards/scene.hpp"

namespace hazards {

namespace {

using namespace cleanfork::test;

const job use_own("use_own", [](const task&) {
    const echo_server server;
    echo_caller caller(server.address());
    for (unsigned i = 0; i < 10; ++i)
        if (!caller.call(i).empty()) return 1;
    return 0;
});

const job call_parent("call_parent", [](const task& t) {
    echo_caller caller(t.word);
    for (unsigned i = 0; i < 10; ++i)
        if (!caller.call(i).empty()) return 1;
    return 0;
});

[[noreturn]] void check_parent(const scene& s, const busy_threads& threads) {
    const std::uint64_t calls = threads.calls();
    const auto deadline = std::chrono::steady_clock::now() + bound(k_hang);
    while (threads.calls() < calls + 20 && threads.complaint().empty() &&
           std::chrono::steady_clock::now() < deadline)
        std::this_thread::yield();
    if (!threads.complaint().empty())
        s.tell(damage{"parent failed", "a call in the parent: " + threads.complaint()});
    else if (threads.calls() < calls + 20)
        s.tell(damage{"parent hung", "calls in the parent are not answered any more"});
    s.end_here();
}

void serve_in_child(const scene& s) {
    const busy_threads threads(3);
    s.all(use_own, {}, 20);
    check_parent(s, threads);
}
const registration own({6, "grpc-own", "a child with server and channel of its own", 20, 50,
                        &serve_in_child});

void call_from_child(const scene& s) {
    const busy_threads threads(3);
    const echo_server server;
    s.all(call_parent, {.word = server.address()}, 20);
    check_parent(s, threads);
}
const registration to_parent({6, "grpc-parent", "a child with a channel to its parent", 20, 50,
                              &call_from_child});

// With GRPC_ENABLE_FORK_SUPPORT=1 it is the fork itself that has to get through
// the busy threads: each try in a process of its own.
void call_with_fork_support(const scene& s) {
    ::setenv("GRPC_ENABLE_FORK_SUPPORT", "1", 1);
    const busy_threads threads(2);
    const echo_server server;
    const ending e = s.start(call_parent, {.word = server.address()}).wait();
    s.tell(e.success() ? verdict() : damage{e.hung ? "hung" : "failed", "the child: " + e.text()});
    s.end_here();
}
const registration supported({6, "grpc-support", "the same, GRPC_ENABLE_FORK_SUPPORT=1", 10, 40,
                              &call_with_fork_support, 2});

}  // namespace

}  // namespace hazards
