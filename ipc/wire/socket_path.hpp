// Where the forkserver's socket lives, and the address of a path.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <cleanfork/failure.hpp>
#include <string>

namespace cleanfork::ipc {

// $CLEANFORK_SOCKET, else $XDG_RUNTIME_DIR/cleanfork/socket, else
// /run/cleanfork/socket for root, /run/user/UID/cleanfork/socket for others.
// Never abstract, never in /tmp.
std::string default_socket_path();

// sun_path holds 107 bytes; a longer path is ENAMETOOLONG with the remedy.
result<sockaddr_un> socket_address(const std::string& path);

}  // namespace cleanfork::ipc
