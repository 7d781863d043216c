// Joining a running forkserver.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cleanfork/client.hpp>

#include "client/src/handshake.hpp"
#include "ipc/socket_path.hpp"
#include "ipc/sys.hpp"

namespace cleanfork {

using namespace detail;

namespace {

// The send timeout bounds connect(2), which blocks while the backlog is full.
result<void> limit_connect(int socket, const std::string& path, const deadline& d) {
    const auto left =
        std::chrono::duration_cast<std::chrono::microseconds>(*d - steady::now()).count();
    if (left <= 0) return ipc::fail(step::connect, ETIMEDOUT, path);
    const timeval t{left / 1'000'000, left % 1'000'000};
    if (::setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t) != 0)
        return ipc::fail(step::connect, errno, path);
    return {};
}

result<unique_fd> connected_socket(const std::string& path, const deadline& d) {
    const auto address = ipc::socket_address(path);
    if (!address) return address.error();
    unique_fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    if (!socket) return ipc::fail(step::connect, errno, path);
    for (;;) {
        if (d)
            if (auto r = limit_connect(socket.get(), path, d); !r) return r.error();
        if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&*address),
                      sizeof *address) == 0)
            break;
        const int error = errno;
        if (error == EINTR) continue;
        if (error == EAGAIN && passed(d)) return ipc::fail(step::connect, ETIMEDOUT, path);
        if (error == EAGAIN) continue;
        return ipc::fail(step::connect, error, path);
    }
    if (::fcntl(socket.get(), F_SETFL, O_RDWR | O_NONBLOCK) != 0)
        return ipc::fail(step::connect, errno, path);
    const auto peer = ipc::peer_of(socket.get());
    if (!peer) return peer.error();
    // Whoever holds the path could otherwise run what we ask for as himself.
    if (peer->uid != ::geteuid())
        return ipc::fail(step::hello, EPERM, path,
                         "the forkserver there belongs to uid " + std::to_string(peer->uid));
    return socket;
}

std::string path_of(const connect_options& o) {
    return o.path.empty() ? ipc::default_socket_path() : o.path;
}

}  // namespace

client connect(const connect_options& options) { return connect_with({}, options); }

namespace detail {

client connect_with(any_io_executor executor, const connect_options& options) {
    const deadline d = deadline_after(options.timeout);
    auto socket = connected_socket(path_of(options), d);
    if (!socket) throw spawn_error(socket.error());
    return greet(std::move(*socket), std::move(executor), d).value();
}

void start_connect(any_io_executor executor, const connect_options& options,
                   client_handler handler) {
    const deadline d = deadline_after(options.timeout);
    completion<client_handler> done(executor, std::move(handler));
    auto socket = connected_socket(path_of(options), d);
    if (!socket) return std::move(done)(exception_of(socket.error()), client());
    auto shared = std::make_shared<completion<client_handler>>(std::move(done));
    start_greeting(std::move(*socket), executor, d, [shared](result<client>&& r) {
        if (r)
            std::move (*shared)(std::exception_ptr(), std::move(*r));
        else
            std::move (*shared)(exception_of(r.error()), client());
    });
}

}  // namespace detail
}  // namespace cleanfork
