// The sockets of a prefork server, apart from gRPC.
#pragma once

#include <cleanfork/unique_fd.hpp>
#include <string>
#include <utility>

namespace prefork {

struct bound_socket {
    cleanfork::unique_fd fd;
    std::string address;  // HOST:PORT with the port it got
};

// A TCP socket at HOST:PORT, both numeric, that others can bind as well when
// `reuse_port`. It does not listen. std::system_error when it cannot be had.
bound_socket bind_to(const std::string& address, bool reuse_port);

// From now on it takes connections.
void start_listening(const cleanfork::unique_fd& socket);

// The two ends of a stream, non-blocking.
std::pair<cleanfork::unique_fd, cleanfork::unique_fd> socket_pair();

}  // namespace prefork
