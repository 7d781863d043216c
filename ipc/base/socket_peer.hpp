// Which socket is at the other end of one, as sock_diag(7) tells.
#pragma once

#include <sys/types.h>

#include <optional>

namespace cleanfork::ipc {

// The inode of an AF_UNIX socket, by which the kernel names it; 0 when it is none.
ino_t socket_inode(int socket) noexcept;
// That of its peer. Empty where nobody can tell: no netlink, or a socket of another network
// namespace.
std::optional<ino_t> peer_inode(int socket) noexcept;

}  // namespace cleanfork::ipc
