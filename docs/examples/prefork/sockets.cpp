#include "sockets.hpp"

#include <fcntl.h>
#include <netdb.h>
#include <sys/socket.h>

#include <cerrno>
#include <memory>
#include <stdexcept>
#include <system_error>

namespace prefork {

namespace {

[[noreturn]] void fail(const std::string& what) {
    throw std::system_error(errno, std::system_category(), what);
}

std::unique_ptr<addrinfo, void (*)(addrinfo*)> resolve(const std::string& address) {
    const std::size_t colon = address.rfind(':');
    if (colon == std::string::npos) throw std::invalid_argument(address + ": no HOST:PORT");
    std::string host = address.substr(0, colon);
    if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
    addrinfo hints{}, *found = nullptr;
    hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
    hints.ai_socktype = SOCK_STREAM;
    const int wrong = ::getaddrinfo(host.c_str(), address.c_str() + colon + 1, &hints, &found);
    if (wrong != 0) throw std::invalid_argument(address + ": " + ::gai_strerror(wrong));
    return {found, ::freeaddrinfo};
}

std::string name_of(const cleanfork::unique_fd& socket) {
    sockaddr_storage name{};
    socklen_t size = sizeof name;
    char host[NI_MAXHOST], port[NI_MAXSERV];
    auto* const generic = reinterpret_cast<sockaddr*>(&name);
    if (::getsockname(socket.get(), generic, &size) != 0) fail("getsockname");
    if (::getnameinfo(generic, size, host, sizeof host, port, sizeof port,
                      NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        throw std::runtime_error("the socket's name cannot be told");
    const bool six = name.ss_family == AF_INET6;
    return (six ? "[" : "") + std::string(host) + (six ? "]:" : ":") + port;
}

}  // namespace

bound_socket bind_to(const std::string& address, bool reuse_port) {
    const auto where = resolve(address);
    bound_socket made;
    made.fd = cleanfork::unique_fd(::socket(where->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!made.fd) fail("socket");
    const int on = 1;
    // The first, so that the connections of a server that ended do not keep the port.
    if (::setsockopt(made.fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        (reuse_port && ::setsockopt(made.fd.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0))
        fail("setsockopt");
    if (::bind(made.fd.get(), where->ai_addr, where->ai_addrlen) != 0) fail("bind " + address);
    made.address = name_of(made.fd);
    return made;
}

void start_listening(const cleanfork::unique_fd& socket) {
    if (::listen(socket.get(), SOMAXCONN) != 0) fail("listen");
}

std::pair<cleanfork::unique_fd, cleanfork::unique_fd> socket_pair() {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
        fail("socketpair");
    return {cleanfork::unique_fd(ends[0]), cleanfork::unique_fd(ends[1])};
}

}  // namespace prefork
