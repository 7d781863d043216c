// Descriptors: made with CLOEXEC, so that none leaks into a program that is started
// meanwhile, and owned from birth.
#pragma once

#include <cleanfork/failure.hpp>
#include <cleanfork/unique_fd.hpp>
#include <cstddef>
#include <string>
#include <string_view>

namespace cleanfork::ipc {

// A memfd with `contents`, sealed against any change (F_SEAL_SEAL included), at offset 0.
// EFBIG when RLIMIT_FSIZE, which counts for memfds too, is in the way: never SIGXFSZ.
result<unique_fd> sealed_memfd(const char* name, std::string_view contents);

// The reading end of a pipe that holds all of `contents`, its writing end closed. A pipe holds
// up to /proc/sys/fs/pipe-max-size, 1 MiB by default.
result<unique_fd> filled_pipe(std::string_view contents);
// What such a pipe holds, when that is `size` bytes; never blocks, whatever is done to the pipe
// meanwhile.
result<std::string> pipe_contents(int pipe, std::size_t size);

// A pair of connected AF_UNIX SOCK_SEQPACKET sockets, CLOEXEC, non-blocking.
struct socket_pair {
    unique_fd first, second;
};
result<socket_pair> seqpacket_pair();

// The uid of the peer of a connected AF_UNIX socket (SO_PEERCRED), or errno.
struct peer {
    unsigned uid, gid;
    int pid;
};
result<peer> peer_of(int socket);

// The number of open descriptors of this process.
std::size_t open_descriptor_count();

// A copy of `fd`, CLOEXEC, never one of the standard streams. Empty, with errno, on failure.
unique_fd dup_fd(int fd) noexcept;

// Moves `fd` to a free number of at least `minimum` (CLOEXEC) and closes the old
// one. On failure (EMFILE) returns it where it was: the number is a preference.
unique_fd move_up(unique_fd fd, int minimum) noexcept;

// Sets O_NONBLOCK, of the open file: everyone who shares it sees that. 0, or errno.
int set_nonblocking(int fd) noexcept;

// All of `bytes`; waits for room, also where somebody has set O_NONBLOCK. 0, or errno.
int write_all(int fd, std::string_view bytes) noexcept;

}  // namespace cleanfork::ipc
