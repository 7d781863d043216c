// cleanforkd: the forkserver.
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <csignal>
#include <iostream>
#include <optional>
#include <vector>

#include "forkserver/daemon/listener.hpp"
#include "forkserver/daemon/log.hpp"
#include "forkserver/daemon/options.hpp"
#include "forkserver/daemon/server.hpp"
#include "ipc/base/fd.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/message.hpp"
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

void close_strays(std::vector<int> keep) {
    const auto close_range = [](unsigned first, unsigned last) {
        if (first > last) return;
        if (::syscall(SYS_close_range, first, last, 0) == 0) return;
        rlimit limit{};
        ::getrlimit(RLIMIT_NOFILE, &limit);
        for (unsigned fd = first; fd <= last && fd < limit.rlim_cur; ++fd)
            ::close(static_cast<int>(fd));
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

class signal_reader {
public:
    signal_reader(boost::asio::io_context& io, unique_fd fd, server& s, logger& log)
        : fd_(io, fd.release()), server_(s), log_(log) {
        await();
    }

private:
    void await() {
        fd_.async_wait(boost::asio::posix::descriptor_base::wait_read,
                       [this](boost::system::error_code ec) {
                           if (ec) return;
                           signalfd_siginfo info{};
                           while (::read(fd_.native_handle(), &info, sizeof info) == sizeof info) {
                               const int number = static_cast<int>(info.ssi_signo);
                               if (number == SIGHUP)
                                   log_.info("signal_ignored", {{"signal", "HUP"}});
                               else
                                   server_.shut_down(number == SIGTERM ? "SIGTERM" : "SIGINT");
                           }
                           await();
                       });
    }

    boost::asio::posix::stream_descriptor fd_;
    server& server_;
    logger& log_;
};

// The launcher reaps this process at once, and the forkserver is nobody's child
// but init's: it disturbs neither SIGCHLD nor wait of the program that asked.
void leave_parent() {
    const pid_t pid = ::fork();
    if (pid > 0) ::_exit(0);
    if (pid < 0) ::_exit(1);
}

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

struct endpoints {
    unique_fd private_socket;
    unique_fd early;  // the control socket of an early template
    std::optional<listening_socket> listening;
};

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

result<void> serve(const options& o, endpoints& ends, logger& log) {
    const std::uint64_t soft_limit = ipc::raise_descriptor_limit();
    auto signals = block_signals();
    if (!signals) return signals.error();
    std::vector<std::string> unknown;
    rlimit descriptors{};
    ::getrlimit(RLIMIT_NOFILE, &descriptors);
    server_config config{fitted(o.quotas, descriptors.rlim_cur), descriptors.rlim_cur,
                         ipc::probe_features(&unknown), CLEANFORK_VERSION,
                         bool(ends.private_socket)};
    for (const std::string& name : unknown) log.warning("unknown_feature", {{"name", name}});
    auto launcher = spawn::launcher::create(config.features, soft_limit);
    if (!launcher) return launcher.error();
    auto watch = child_table::create_watch();
    if (!watch) return watch.error();

    // One thread: asio needs no locks.
    boost::asio::io_context io(BOOST_ASIO_CONCURRENCY_HINT_UNSAFE);
    const auto own = [&](unique_fd fd) { return launcher->own_descriptor(std::move(fd)); };
    unique_fd own_watch = own(std::move(*watch));
    unique_fd own_signals = own(std::move(*signals));
    if (ends.listening) ends.listening->socket = own(std::move(ends.listening->socket));
    server srv(io, config, std::move(*launcher), std::move(own_watch), log,
               [&] { boost::asio::post(io, [&io] { io.stop(); }); });
    const signal_reader reader(io, std::move(own_signals), srv, log);
    std::optional<listener> accepting;
    if (ends.listening) {
        const std::string path = ends.listening->path;
        accepting.emplace(io, std::move(*ends.listening),
                          [&srv](unique_fd fd) { srv.add_session(std::move(fd)); });
        srv.on_shutdown = [&accepting] {
            accepting->close();
            notify("STOPPING=1");
        };
        notify("READY=1");
        log.info(
            "listening",
            {{"socket", path}, {"pid", std::int64_t{::getpid()}}, {"version", CLEANFORK_VERSION}});
    } else {
        srv.add_session(std::move(ends.private_socket));
        if (ends.early)
            if (auto r = srv.add_early_template(o.early_name, o.early_pid, std::move(ends.early));
                !r)
                return r;
    }
    io.run();
    log.info("ended");
    return {};
}

int run(int argc, char** argv) {
    options o;
    if (const auto done = parse(argc, argv, o)) return *done;
    logger log(o.least);
    fill_standard_descriptors();
    reset_signals();
    ::umask(022);
    ::prctl(PR_SET_DUMPABLE, 0);
    auto ends = open_endpoints(o);
    if (!ends) {
        std::cerr << "cleanforkd: " << ends.error().message() << '\n';
        return 1;
    }
    // With an early template this process is its parent already, and nobody's child.
    if (ends->private_socket && !ends->early) leave_parent();
    if (auto r = serve(o, *ends, log); !r) {
        log.error("failed", {{"why", r.error().message()}});
        return 1;
    }
    return 0;
}

}  // namespace
}  // namespace cleanfork::daemon

int main(int argc, char** argv) {
    try {
        return cleanfork::daemon::run(argc, argv);
    } catch (const std::exception& e) {
        std::cerr << "cleanforkd: " << e.what() << '\n';
        return 1;
    }
}
