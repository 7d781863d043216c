#include "forkserver/daemon/listener.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "ipc/base/fd.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/message.hpp"
#include "ipc/wire/socket_path.hpp"

namespace cleanfork::daemon {

namespace {

constexpr int k_backlog = 512;
constexpr std::chrono::milliseconds k_pause_without_descriptors{20};

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

bool is_in_place(const listening_socket& s) {
    struct stat now {};
    return !s.name.empty() &&
           ::fstatat(s.directory.get(), s.name.c_str(), &now, AT_SYMLINK_NOFOLLOW) == 0 &&
           now.st_dev == s.device && now.st_ino == s.inode;
}

}  // namespace

result<listening_socket> listen_at(const std::string& path) {
    if (const auto checked = ipc::socket_address(path); !checked) return checked.error();
    const auto parts = split(path);
    if (!parts) return parts.error();
    auto directory = open_directory(parts->directory);
    if (!directory) return directory.error();
    auto lock = take_lock(directory->get(), parts->name, path);
    if (!lock) return lock.error();

    unique_fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket) return ipc::fail(step::launch, errno, path);
    const std::string private_name =
        "." + parts->name.substr(0, 32) + "." + std::to_string(::getpid());
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
    return listening_socket{
        std::move(socket), std::move(*directory), std::move(*lock), parts->name, path,
        about.st_dev,      about.st_ino};
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

void notify(const char* state) {
    const char* path = std::getenv("NOTIFY_SOCKET");
    if (path == nullptr || (path[0] != '/' && path[0] != '@')) return;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::size_t length = std::strlen(path);
    if (length >= sizeof address.sun_path) return;
    std::memcpy(address.sun_path, path, length);
    if (path[0] == '@') address.sun_path[0] = '\0';
    const unique_fd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!socket) return;
    ::sendto(socket.get(), state, std::strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT,
             reinterpret_cast<const sockaddr*>(&address),
             static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length));
}

listener::listener(boost::asio::io_context& io, listening_socket socket, listener_owner& owner)
    : acceptor_(io, socket.socket.release()),
      pause_(io),
      held_(std::move(socket)),
      reserve_(::open("/dev/null", O_RDONLY | O_CLOEXEC)),
      owner_(owner) {
    await();
}

void listener::close() {
    if (!acceptor_.is_open()) return;
    boost::system::error_code ignored;
    acceptor_.close(ignored);
    pause_.cancel();
    if (is_in_place(held_)) ::unlinkat(held_.directory.get(), held_.name.c_str(), 0);
    held_ = {};
}

void listener::await() {
    acceptor_.async_wait(boost::asio::posix::descriptor_base::wait_read,
                         [this](boost::system::error_code ec) {
                             if (!ec && acceptor_.is_open()) accept_all();
                         });
}

void listener::accept_all() {
    for (;;) {
        const int fd = ipc::retry([&] {
            return ::accept4(acceptor_.native_handle(), nullptr, nullptr,
                             SOCK_CLOEXEC | SOCK_NONBLOCK);
        });
        if (fd >= 0) {
            owner_.on_connection(unique_fd(fd));
            continue;
        }
        const int e = errno;
        if (e == ECONNABORTED) continue;
        if (e == EMFILE || e == ENFILE || e == ENOMEM || e == ENOBUFS) {
            refuse_one();
            // Level-triggered readiness would spin here while descriptors are short.
            pause_.expires_after(k_pause_without_descriptors);
            return pause_.async_wait([this](boost::system::error_code ec) {
                if (!ec && acceptor_.is_open()) accept_all();
            });
        }
        return await();
    }
}

// The reserve descriptor is spent on telling one client why it cannot be served.
void listener::refuse_one() {
    reserve_.reset();
    {
        unique_fd fd(
            ::accept4(acceptor_.native_handle(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        v1::ServerMessage m;
        ipc::to_wire(ipc::fail(step::quota, EMFILE, "descriptors",
                               "RESOURCE_EXHAUSTED: the forkserver is out of descriptors"),
                     *m.mutable_failure());
        if (const auto e = ipc::encode(m); fd && e) ipc::send(fd.get(), *e, {});
        if (fd) owner_.on_refused(std::move(fd));
    }
    reserve_.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
}

}  // namespace cleanfork::daemon
