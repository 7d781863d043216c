#include "forkserver/daemon/startup.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <vector>

#include "ipc/base/fd.hpp"
#include "ipc/base/proc.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/defaults.hpp"
#include "ipc/wire/socket_path.hpp"

namespace cleanfork::daemon {

namespace {

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

// Without close_range(2), and with a limit of up to 2^30: those that there are, as /proc has them.
void close_each(unsigned first, unsigned last) {
    const unique_fd listed(::open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (listed) {
        std::vector<int> open;
        ipc::each_number(listed.get(), [&](const char*, int fd) {
            const auto number = static_cast<unsigned>(fd);
            if (number >= first && number <= last && fd != listed.get()) open.push_back(fd);
        });
        for (const int fd : open) ::close(fd);
        return;
    }
    constexpr rlim_t k_most = 1U << 20;  // fs.nr_open, unless somebody raised it
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    for (rlim_t fd = first; fd <= last && fd < std::min(limit.rlim_cur, k_most); ++fd)
        ::close(static_cast<int>(fd));
}

void close_strays(std::vector<int> keep) {
    const auto close_range = [](unsigned first, unsigned last) {
        if (first <= last && ::syscall(SYS_close_range, first, last, 0) != 0)
            close_each(first, last);
    };
    std::sort(keep.begin(), keep.end());
    unsigned next = 3;
    for (const int fd : keep) {
        if (fd < 3) continue;
        if (static_cast<unsigned>(fd) > next) close_range(next, static_cast<unsigned>(fd) - 1);
        next = static_cast<unsigned>(fd) + 1;
    }
    close_range(next, ~0U);
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
    for (const int s : {SIGTERM, SIGINT, SIGHUP, SIGPIPE}) sigaddset(&set, s);
    if (::sigprocmask(SIG_BLOCK, &set, nullptr) != 0)
        return ipc::fail(step::launch, errno, "sigprocmask");
    sigdelset(&set, SIGPIPE);  // blocked so that a write gives EPIPE; nobody reads it
    unique_fd fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!fd) return ipc::fail(step::launch, errno, "signalfd");
    return fd;
}

void leave_parent() {
    const pid_t pid = ::fork();
    if (pid > 0) ::_exit(0);
    if (pid < 0) ::_exit(1);
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

}  // namespace

result<endpoints> open_endpoints(const options& o) {
    endpoints e;
    if (o.private_fd >= 0) {
        if (auto r = check_private("--private-fd", o.private_fd); !r) return r.error();
        ::fcntl(o.private_fd, F_SETFD, FD_CLOEXEC);
        ipc::set_nonblocking(o.private_fd);
        e.private_socket = unique_fd(o.private_fd);
        close_strays({o.private_fd, o.early_fd});
        if (o.early_fd < 0) return e;
        if (auto r = check_private("--early-fd", o.early_fd); !r) return r.error();
        ::fcntl(o.early_fd, F_SETFD, FD_CLOEXEC);
        e.early = unique_fd(o.early_fd);
        return e;
    }
    auto activated = activated_socket();
    if (!activated) return activated.error();
    close_strays({activated->get()});
    if (*activated) {
        e.listening = listening_socket{std::move(*activated), {}, {}, {}, "(activated)"};
        return e;
    }
    auto bound = listen_at(o.socket.empty() ? ipc::default_socket_path() : o.socket);
    if (!bound) return bound.error();
    e.listening = std::move(*bound);
    return e;
}

}  // namespace cleanfork::daemon
