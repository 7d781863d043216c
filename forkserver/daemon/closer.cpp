#include "forkserver/daemon/closer.hpp"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>

#include "ipc/base/close_others.hpp"
#include "ipc/wire/limits.hpp"

namespace cleanfork::daemon {

namespace {

constexpr timeval k_idle{2, 0};
constexpr int k_yields = 64;
constexpr long k_pause_ns = 50'000;
constexpr int k_pauses = 20'000;  // a second: then the forkserver is no more
// A socket that lingers stops waiting at a signal, and goes on by itself: its data is sent as
// ever, only that nobody waits for it (sk_stream_wait_close() of net/core/stream.c).
constexpr itimerval k_hurry{{0, 1000}, {0, 1000}};
constexpr itimerval k_none{};

void await(const closing_board& board, std::uint64_t number) noexcept {
    for (int i = 0; i < k_yields + k_pauses; ++i) {
        if (board.given_up.load(std::memory_order_acquire) >= number) return;
        const timespec pause{0, k_pause_ns};
        if (i < k_yields)
            ::sched_yield();
        else
            ::nanosleep(&pause, nullptr);
    }
}

void prepare(int socket) noexcept {
    ::setsid();
    ::prctl(PR_SET_NAME, "cleanfork-close");
    int kept[] = {socket};
    ipc::close_others(kept);
    struct sigaction hurry {};
    hurry.sa_handler = [](int) {};
    ::sigaction(SIGALRM, &hurry, nullptr);
    ::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &k_idle, sizeof k_idle);
}

void close_all(const msghdr& message) noexcept {
    auto* m = const_cast<msghdr*>(&message);
    for (cmsghdr* c = CMSG_FIRSTHDR(m); c != nullptr; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
        const std::size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < n; ++i) {
            int fd;
            std::memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
            ::close(fd);
        }
    }
}

}  // namespace

void run_closer(int socket, const closing_board& board) noexcept {
    prepare(socket);
    for (;;) {
        std::uint64_t number = 0;
        iovec part{&number, sizeof number};
        alignas(cmsghdr) char control[CMSG_SPACE(ipc::k_max_descriptors * sizeof(int))];
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        const ssize_t n = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) ::_exit(0);
        await(board, number);
        ::setitimer(ITIMER_REAL, &k_hurry, nullptr);
        close_all(message);
        ::setitimer(ITIMER_REAL, &k_none, nullptr);
    }
}

}  // namespace cleanfork::daemon
