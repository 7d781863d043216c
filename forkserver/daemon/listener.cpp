#include "forkserver/daemon/listener.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/system/system_error.hpp>
#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>

#include "forkserver/daemon/loop/boundary.hpp"
#include "ipc/base/fd.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/message.hpp"
#include "ipc/wire/socket_path.hpp"

namespace cleanfork::daemon {

namespace {

constexpr int k_backlog = 512;
constexpr std::chrono::milliseconds k_pause{20};

struct split_path {
    std::string directory, name;
};

result<split_path> split(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    if (slash == std::string::npos || slash + 1 == path.size())
        return ipc::fail(step::launch, EINVAL, path, "a socket path is DIRECTORY/NAME");
    return split_path{slash == 0 ? "/" : path.substr(0, slash), path.substr(slash + 1)};
}

// Others must not be able to put their own socket in our place.
result<unique_fd> open_directory(const std::string& path) {
    if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
        return ipc::fail(step::launch, errno, path, "the socket's directory could not be made");
    unique_fd directory(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory)
        return ipc::fail(step::launch, errno, path, "the socket's directory could not be opened");
    struct stat st {};
    if (::fstat(directory.get(), &st) != 0) return ipc::fail(step::launch, errno, path);
    if (st.st_uid != ::geteuid())
        return ipc::fail(step::launch, EPERM, path,
                         "the socket's directory belongs to another user");
    if ((st.st_mode & 022) != 0)
        return ipc::fail(step::launch, EPERM, path,
                         "others may write to the socket's directory: choose one with mode 0700");
    return directory;
}

result<unique_fd> take_lock(int directory, const std::string& name, const std::string& path) {
    const std::string lock_name = name + ".lock";
    unique_fd lock(
        ::openat(directory, lock_name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!lock) return ipc::fail(step::launch, errno, path + ".lock");
    if (ipc::retry([&] { return ::flock(lock.get(), LOCK_EX | LOCK_NB); }) == 0) return lock;
    if (errno == EWOULDBLOCK)
        return ipc::fail(step::launch, EADDRINUSE, path, "another forkserver serves this path");
    return ipc::fail(step::launch, errno, path + ".lock");
}

}  // namespace

listening_socket& listening_socket::operator=(listening_socket&& other) noexcept {
    remove();
    socket = std::move(other.socket);
    directory = std::move(other.directory);
    lock = std::move(other.lock);
    name = std::exchange(other.name, {});
    path = std::move(other.path);
    device = other.device;
    inode = other.inode;
    return *this;
}

void listening_socket::remove() noexcept {
    struct stat now {};
    if (!name.empty() && ::fstatat(directory.get(), name.c_str(), &now, AT_SYMLINK_NOFOLLOW) == 0 &&
        now.st_dev == device && now.st_ino == inode)
        ::unlinkat(directory.get(), name.c_str(), 0);
    name.clear();
}

result<listening_socket> listen_at(const std::string& path) {
    if (const auto checked = ipc::socket_address(path); !checked) return checked.error();
    const auto parts = split(path);
    if (!parts) return parts.error();
    auto directory = open_directory(parts->directory);
    if (!directory) return directory.error();
    auto lock = take_lock(directory->get(), parts->name, path);
    if (!lock) return lock.error();
    struct stat there {};
    if (::fstatat(directory->get(), parts->name.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0 &&
        !S_ISSOCK(there.st_mode))
        return ipc::fail(step::launch, EEXIST, path,
                         "something is there that is no socket: remove it, or choose another path");

    unique_fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket) return ipc::fail(step::launch, errno, path);
    // One for each lock, so that one whose process was killed is removed by the next.
    struct stat locked {};
    if (::fstat(lock->get(), &locked) != 0) return ipc::fail(step::launch, errno, path + ".lock");
    const std::string private_name =
        "." + parts->name.substr(0, 32) + "." + std::to_string(locked.st_ino);
    // Through the descriptor, so that the directory checked is the one used. Without /proc by its
    // name: a socket that is bound in another is not found below.
    const std::string through = "/proc/self/fd/" + std::to_string(directory->get());
    const bool has_proc = ::access(through.c_str(), X_OK) == 0;
    const auto address =
        ipc::socket_address((has_proc ? through : parts->directory) + "/" + private_name);
    if (!address) return address.error();
    ::unlinkat(directory->get(), private_name.c_str(), 0);
    const mode_t before = ::umask(0177);
    const int bound =
        ::bind(socket.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address);
    const int bind_error = errno;
    ::umask(before);
    if (bound != 0)
        return ipc::fail(step::launch, bind_error, path, "the socket could not be bound");
    struct stat about {};
    if (::fstatat(directory->get(), private_name.c_str(), &about, AT_SYMLINK_NOFOLLOW) != 0 ||
        ::listen(socket.get(), k_backlog) != 0 ||
        ::renameat(directory->get(), private_name.c_str(), directory->get(), parts->name.c_str()) !=
            0) {
        const int e = errno;
        ::unlinkat(directory->get(), private_name.c_str(), 0);
        return ipc::fail(step::launch, e, path);
    }
    listening_socket made;
    made.socket = std::move(socket);
    made.directory = std::move(*directory);
    made.lock = std::move(*lock);
    made.name = parts->name;
    made.path = path;
    made.device = about.st_dev;
    made.inode = about.st_ino;
    return made;
}

result<unique_fd> activated_socket() {
    const char* pid = std::getenv("LISTEN_PID");
    const char* count = std::getenv("LISTEN_FDS");
    const bool ours = pid != nullptr && count != nullptr && std::to_string(::getpid()) == pid;
    const std::string number = count != nullptr ? count : "";
    for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) ::unsetenv(name);
    if (!ours) return unique_fd();
    if (number != "1")
        return ipc::fail(step::launch, EINVAL, "LISTEN_FDS",
                         "exactly one socket is expected, not " + number);
    constexpr int k_first = 3;  // SD_LISTEN_FDS_START
    int type = 0;
    int listening = 0;
    socklen_t size = sizeof type;
    if (::getsockopt(k_first, SOL_SOCKET, SO_TYPE, &type, &size) != 0)
        return ipc::fail(step::launch, errno, "descriptor 3",
                         "socket activation promised a socket");
    size = sizeof listening;
    ::getsockopt(k_first, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size);
    if (type != SOCK_SEQPACKET || listening == 0)
        return ipc::fail(step::launch, EINVAL, "descriptor 3",
                         "a listening SOCK_SEQPACKET socket is needed (ListenSequentialPacket=)");
    ::fcntl(k_first, F_SETFD, FD_CLOEXEC);
    ipc::set_nonblocking(k_first);
    return unique_fd(k_first);
}

listener::listener(event_loop& io, listening_socket socket, logger& log, listener_owner& owner)
    : io_(io),
      acceptor_(io, "listener"),
      again_(io, "listener", [this] { accept_and_await(); }),
      log_(log),
      held_(std::move(socket)),
      reserve_(::open("/dev/null", O_RDONLY | O_CLOEXEC)),
      owner_(owner) {
    if (const int e = acceptor_.take(held_.socket))
        throw boost::system::system_error(e, boost::system::system_category(), held_.path);
    await();
}

void listener::close() {
    if (!acceptor_.is_open()) return;
    acceptor_.close();
    again_.cancel();
    held_ = {};
}

void listener::await() {
    if (acceptor_.is_open()) acceptor_.await([this] { accept_and_await(); });
}

// Level-triggered readiness would spin where connections cannot be taken: then there is a pause.
void listener::accept_and_await() {
    bool pauses = true;
    bounded(io_, "listener", [&] { pauses = !accept_all(); });
    if (!acceptor_.is_open()) return;
    pauses ? again_.set_in(k_pause) : await();
}

// False when there are more, and they cannot be taken now.
bool listener::accept_all() {
    for (;;) {
        const int fd = ipc::retry([&] {
            return ::accept4(acceptor_.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
        });
        if (fd >= 0) {
            last_error_ = 0;
            owner_.on_connection(unique_fd(fd));
            if (!acceptor_.is_open()) return true;
            continue;
        }
        const int e = errno;
        if (e == EAGAIN || e == EWOULDBLOCK) return true;
        if (e == ECONNABORTED) continue;
        if (e == EMFILE || e == ENFILE || e == ENOMEM || e == ENOBUFS) refuse_one(e);
        if (std::exchange(last_error_, e) != e)
            log_.error("accept_failed",
                       {{"socket", held_.path},
                        {"why", ipc::fail(step::connect, e, "accept4").message()}});
        return false;
    }
}

// The reserve descriptor is spent on telling one client why it cannot be served.
void listener::refuse_one(int why) {
    const bool no_descriptor = why == EMFILE || why == ENFILE;
    reserve_.reset();
    {
        unique_fd fd(::accept4(acceptor_.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        v1::ServerMessage m;
        ipc::to_wire(ipc::fail(step::quota, why, no_descriptor ? "descriptors" : "memory",
                               std::string("RESOURCE_EXHAUSTED: the forkserver is out of ") +
                                   (no_descriptor ? "descriptors" : "memory for connections")),
                     *m.mutable_failure());
        if (const auto e = ipc::encode(m); fd && e) ipc::send(fd.get(), *e, {});
        if (fd) owner_.on_refused(std::move(fd));
    }
    reserve_.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
}

}  // namespace cleanfork::daemon
