// Joining a running forkserver.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cleanfork/client.hpp>

#include "client/src/requests/handshake.hpp"
#include "ipc/base/fd.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/socket_path.hpp"

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

result<void> prepare_socket(const unique_fd& socket, const std::string& name) {
    if (::fcntl(socket.get(), F_SETFL, O_RDWR | O_NONBLOCK) != 0)
        return ipc::fail(step::connect, errno, name);
    const auto peer = ipc::peer_of(socket.get());
    if (!peer) return peer.error();
    // Whoever holds the other end could else run what we ask for as himself.
    if (peer->uid != ::geteuid())
        return ipc::fail(step::hello, EPERM, name,
                         "the forkserver there belongs to uid " + std::to_string(peer->uid));
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
    if (auto r = prepare_socket(socket, path); !r) return r.error();
    return socket;
}

result<void> check_kind(const unique_fd& socket) {
    int domain = 0, type = 0;
    socklen_t size = sizeof domain;
    if (::getsockopt(socket.get(), SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0 ||
        ::getsockopt(socket.get(), SOL_SOCKET, SO_TYPE, &type, &size) != 0)
        return ipc::fail(step::connect, errno, std::to_string(socket.get()));
    if (domain == AF_UNIX && type == SOCK_SEQPACKET) return {};
    return ipc::fail(step::connect, EPROTOTYPE, std::to_string(socket.get()),
                     "the socket of a forkserver is AF_UNIX and SOCK_SEQPACKET");
}

// A socket that somebody else has connected, as connected_socket() leaves its own.
result<void> prepare_given(const unique_fd& socket) {
    if (auto r = check_kind(socket); !r) return r;
    if (::fcntl(socket.get(), F_SETFD, FD_CLOEXEC) != 0)
        return ipc::fail(step::connect, errno, std::to_string(socket.get()));
    return prepare_socket(socket, std::to_string(socket.get()));
}

std::string path_of(const connect_options& o) {
    return o.path.empty() ? ipc::default_socket_path() : o.path;
}

}  // namespace

client connect(const connect_options& options) { return connect_with({}, options); }

client attach(unique_fd socket, timeout t) { return attach({}, std::move(socket), t); }

client attach(any_io_executor executor, unique_fd socket, timeout t) {
    if (auto r = prepare_given(socket); !r) throw spawn_error(r.error());
    return greet(std::move(socket), std::move(executor), deadline_after(t)).value();
}

namespace detail {

client connect_with(any_io_executor executor, const connect_options& options) {
    const deadline d = deadline_after(options.timeout);
    auto socket = connected_socket(path_of(options), d);
    if (!socket) throw spawn_error(socket.error());
    return greet(std::move(*socket), std::move(executor), d, rights_of(options.lends_rights))
        .value();
}

namespace {

void start(unique_fd socket, const any_io_executor& executor, const deadline& d,
           completion<client_handler>&& done, session_rights lent = session_rights::own) {
    auto shared = std::make_shared<completion<client_handler>>(std::move(done));
    const auto on_greeting = [shared](result<client>&& r) {
        if (r)
            std::move (*shared)(std::exception_ptr(), std::move(*r));
        else
            std::move (*shared)(exception_of(r.error()), client());
    };
    start_greeting(std::move(socket), executor, d, on_greeting, lent);
}

}  // namespace

void start_connect(any_io_executor executor, const connect_options& options,
                   client_handler handler) {
    const deadline d = deadline_after(options.timeout);
    completion<client_handler> done(executor, std::move(handler));
    auto socket = connected_socket(path_of(options), d);
    if (!socket) return std::move(done)(exception_of(socket.error()), client());
    start(std::move(*socket), executor, d, std::move(done), rights_of(options.lends_rights));
}

void start_attach(any_io_executor executor, unique_fd socket, timeout t, client_handler handler) {
    completion<client_handler> done(executor, std::move(handler));
    if (auto r = prepare_given(socket); !r)
        return std::move(done)(exception_of(r.error()), client());
    start(std::move(socket), executor, deadline_after(t), std::move(done));
}

}  // namespace detail
}  // namespace cleanfork
