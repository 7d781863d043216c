#include "ipc/base/fd.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <csignal>
#include <memory>

#include "ipc/base/close_others.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::ipc {

namespace {

// While this lives, a write beyond RLIMIT_FSIZE is EFBIG for this thread and not SIGXFSZ, which
// would end the program: the limit counts for memfds too.
class without_size_signal {
public:
    without_size_signal() {
        ::sigemptyset(&it_);
        ::sigaddset(&it_, SIGXFSZ);
        sigset_t pending;
        was_pending_ = ::sigpending(&pending) == 0 && ::sigismember(&pending, SIGXFSZ) == 1;
        ::pthread_sigmask(SIG_BLOCK, &it_, &before_);
    }
    without_size_signal(const without_size_signal&) = delete;
    without_size_signal& operator=(const without_size_signal&) = delete;
    ~without_size_signal() {
        const timespec none{};
        if (!was_pending_) retry([&] { return ::sigtimedwait(&it_, nullptr, &none); });
        ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }

private:
    sigset_t it_{}, before_{};
    bool was_pending_ = false;
};

}  // namespace

result<unique_fd> sealed_memfd(const char* name, std::string_view contents) {
    unique_fd fd(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!fd)
        return fail(step::prepare, errno, "memfd", "could not create a memfd for a large message");
    const without_size_signal quiet;
    for (std::size_t done = 0; done < contents.size();) {
        const ssize_t n = retry([&] {
            return ::pwrite(fd.get(), contents.data() + done, contents.size() - done,
                            static_cast<off_t>(done));
        });
        if (n < 0) return fail(step::prepare, errno, "memfd", "could not write a large message");
        done += static_cast<std::size_t>(n);
    }
    constexpr int k_seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
    if (::fcntl(fd.get(), F_ADD_SEALS, k_seals) != 0)
        return fail(step::prepare, errno, "memfd", "could not seal a large message");
    return fd;
}

result<unique_fd> filled_pipe(std::string_view contents) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return fail(step::prepare, errno, "pipe");
    unique_fd out(ends[0]);
    const unique_fd in(ends[1]);
    if (::fcntl(in.get(), F_SETPIPE_SZ, static_cast<int>(contents.size())) < 0)
        return fail(step::prepare, errno, "pipe", "could not make room for a large message");
    while (!contents.empty()) {
        const ssize_t n =
            retry([&] { return ::write(in.get(), contents.data(), contents.size()); });
        if (n < 0) return fail(step::prepare, errno, "pipe", "could not write a large message");
        contents.remove_prefix(static_cast<std::size_t>(n));
    }
    return out;
}

result<std::string> pipe_contents(int pipe, std::size_t size) {
    // An open file of its own: another process may clear O_NONBLOCK of a shared one.
    const std::string name = "/proc/self/fd/" + std::to_string(pipe);
    const unique_fd own(::open(name.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    if (!own) return fail(step::prepare, errno, "pipe");
    int held = 0;
    if (::ioctl(own.get(), FIONREAD, &held) != 0) return fail(step::prepare, errno, "pipe");
    if (static_cast<std::size_t>(held) != size)
        return fail(step::prepare, EBADMSG, "pipe", "it holds another number of bytes");
    std::string all(size, '\0');
    for (std::size_t done = 0; done < size;) {
        const ssize_t n = retry([&] { return ::read(own.get(), all.data() + done, size - done); });
        if (n <= 0) return fail(step::prepare, EBADMSG, "pipe", "another process reads it");
        done += static_cast<std::size_t>(n);
    }
    return all;
}

result<socket_pair> seqpacket_pair() {
    int fds[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) != 0)
        return fail(step::connect, errno, "socketpair");
    return socket_pair{unique_fd(fds[0]), unique_fd(fds[1])};
}

std::size_t open_descriptor_count() {
    const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir("/proc/self/fd"), &::closedir);
    if (!dir) return probed_descriptor_count();
    std::size_t n = 0;
    while (const dirent* e = ::readdir(dir.get())) n += e->d_name[0] != '.';
    return n - 1;  // the directory itself
}

unique_fd dup_fd(int fd) noexcept {
    constexpr int k_above_standard_streams = 3;
    return unique_fd(::fcntl(fd, F_DUPFD_CLOEXEC, k_above_standard_streams));
}

unique_fd move_up(unique_fd fd, int minimum) noexcept {
    if (!fd || fd.get() >= minimum) return fd;
    const int saved = errno;
    unique_fd moved(::fcntl(fd.get(), F_DUPFD_CLOEXEC, minimum));
    errno = saved;
    return moved ? std::move(moved) : std::move(fd);
}

result<peer> peer_of(int socket) {
    ucred credentials{};
    socklen_t size = sizeof credentials;
    if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0)
        return fail(step::hello, errno, "SO_PEERCRED");
    return peer{credentials.uid, credentials.gid, credentials.pid};
}

int set_nonblocking(int fd) noexcept {
    const int flags = ::fcntl(fd, F_GETFL);
    if (flags < 0) return errno;
    return ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0 ? 0 : errno;
}

int write_all(int fd, std::string_view bytes) noexcept {
    while (!bytes.empty()) {
        const ssize_t n = retry([&] { return ::write(fd, bytes.data(), bytes.size()); });
        if (n < 0) {
            if (errno != EAGAIN) return errno;
            pollfd room{fd, POLLOUT, 0};
            retry([&] { return ::poll(&room, 1, -1); });
            continue;
        }
        bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return 0;
}

}  // namespace cleanfork::ipc
