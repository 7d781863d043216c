#include "forkserver/daemon/startup.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstddef>

#include "ipc/base/close_others.hpp"
#include "ipc/base/fd.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/defaults.hpp"
#include "ipc/wire/socket_path.hpp"

namespace cleanfork::daemon {

namespace {

constexpr int k_first_stray = 3;  // after the standard descriptors

// Children inherit dispositions and descriptors through us: both are put right
// once, here, and not in each child. The raw calls reach the two real-time
// signals libc keeps to itself.
void reset_signals() {
    const std::uint64_t every = ~std::uint64_t{0};
    ::syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &every, nullptr, sizeof every);
    struct kernel_action {
        void (*handler)(int);
        unsigned long flags;
        void (*restorer)();
        std::uint64_t mask;
    } action{};
    for (int s = 1; s <= 64; ++s)
        ::syscall(SYS_rt_sigaction, s, &action, nullptr, sizeof action.mask);
}

// 0, 1 and 2 exist, so that no descriptor of ours gets one of these numbers.
void fill_standard_descriptors() {
    int fd;
    do fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    while (fd >= 0 && fd <= 2);
    if (fd > 2) ::close(fd);
}

}  // namespace

void become_clean() {
    fill_standard_descriptors();
    reset_signals();
    ::umask(ipc::k_default_umask);
    ::prctl(PR_SET_DUMPABLE, 0);
}

result<unique_fd> block_signals() {
    sigset_t set;
    sigemptyset(&set);
    for (const int s : {SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGXFSZ}) sigaddset(&set, s);
    if (::sigprocmask(SIG_BLOCK, &set, nullptr) != 0)
        return ipc::fail(step::launch, errno, "sigprocmask");
    // Blocked so that a write gives EPIPE, and beyond RLIMIT_FSIZE EFBIG; nobody reads them. A
    // child has neither: its mask is set before its program.
    sigdelset(&set, SIGPIPE);
    sigdelset(&set, SIGXFSZ);
    unique_fd fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!fd) return ipc::fail(step::launch, errno, "signalfd");
    return fd;
}

result<void> leave_parent() {
    const pid_t pid = ::fork();
    if (pid > 0) ::_exit(0);
    if (pid < 0) return ipc::fail(step::launch, errno, "fork");
    return {};
}

namespace {

result<void> check_private(const char* option, int fd) {
    int type = 0;
    socklen_t size = sizeof type;
    if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0)
        return ipc::fail(step::launch, errno, std::string(option) + " " + std::to_string(fd));
    if (type != SOCK_SEQPACKET)
        return ipc::fail(step::launch, EINVAL, std::string(option) + " " + std::to_string(fd),
                         "it is no SOCK_SEQPACKET socket");
    return {};
}

// Where a socket that was passed to us is bound, for display.
std::string address_of(int socket) {
    sockaddr_un address{};
    socklen_t size = sizeof address;
    constexpr socklen_t k_path = offsetof(sockaddr_un, sun_path);
    if (::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0 || size <= k_path)
        return "(activated)";
    std::string path(address.sun_path, std::min<std::size_t>(size, sizeof address) - k_path);
    if (path[0] == '\0') path[0] = '@';  // abstract, with all of its bytes
    return path.substr(0, path.find('\0'));
}

}  // namespace

result<endpoints> open_endpoints(const options& o) {
    endpoints e;
    if (o.private_fd >= 0) {
        if (auto r = check_private("--private-fd", o.private_fd); !r) return r.error();
        ::fcntl(o.private_fd, F_SETFD, FD_CLOEXEC);
        ipc::set_nonblocking(o.private_fd);
        e.private_socket = unique_fd(o.private_fd);
        int kept[] = {o.private_fd, o.early_fd};
        ipc::close_others(kept, k_first_stray);
        if (o.early_fd < 0) return e;
        if (auto r = check_private("--early-fd", o.early_fd); !r) return r.error();
        ::fcntl(o.early_fd, F_SETFD, FD_CLOEXEC);
        e.early = unique_fd(o.early_fd);
        return e;
    }
    auto activated = activated_socket();
    if (!activated) return activated.error();
    int kept[] = {activated->get()};
    ipc::close_others(kept, k_first_stray);
    if (*activated) {
        e.listening.emplace();
        e.listening->socket = std::move(*activated);
        e.listening->path = address_of(e.listening->socket.get());
        return e;
    }
    auto bound = listen_at(o.set.socket.empty() ? ipc::default_socket_path() : o.set.socket);
    if (!bound) return bound.error();
    e.listening.emplace(std::move(*bound));
    return e;
}

}  // namespace cleanfork::daemon
