#include "ipc/base/sys.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <ctime>
#include <memory>

namespace cleanfork::ipc {

result<unique_fd> sealed_memfd(const char* name, std::string_view contents) {
    unique_fd fd(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (!fd)
        return fail(step::prepare, errno, "memfd", "could not create a memfd for a large message");
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

result<socket_pair> seqpacket_pair() {
    int fds[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) != 0)
        return fail(step::connect, errno, "socketpair");
    return socket_pair{unique_fd(fds[0]), unique_fd(fds[1])};
}

std::size_t open_descriptor_count() {
    const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir("/proc/self/fd"), &::closedir);
    if (!dir) {
        // /proc/self/fd belongs to root in a process that is not dumpable.
        rlimit limit{};
        ::getrlimit(RLIMIT_NOFILE, &limit);
        std::size_t open = 0;
        for (int fd = 0; fd < static_cast<int>(limit.rlim_cur); ++fd)
            open += ::fcntl(fd, F_GETFD) >= 0;
        return open;
    }
    std::size_t n = 0;
    while (const dirent* e = ::readdir(dir.get())) n += e->d_name[0] != '.';
    return n - 1;  // the directory itself
}

unique_fd move_up(unique_fd fd, int minimum) noexcept {
    if (!fd || fd.get() >= minimum) return fd;
    const int saved = errno;
    unique_fd moved(::fcntl(fd.get(), F_DUPFD_CLOEXEC, minimum));
    errno = saved;
    return moved ? std::move(moved) : std::move(fd);
}

std::uint64_t monotonic_ns() noexcept {
    timespec t{};
    ::clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000U +
           static_cast<std::uint64_t>(t.tv_nsec);
}

result<peer> peer_of(int socket) {
    ucred credentials{};
    socklen_t size = sizeof credentials;
    if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0)
        return fail(step::hello, errno, "SO_PEERCRED");
    return peer{credentials.uid, credentials.gid, credentials.pid};
}

std::uint64_t raise_descriptor_limit() noexcept {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
    const rlim_t before = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
    return before;
}

}  // namespace cleanfork::ipc
