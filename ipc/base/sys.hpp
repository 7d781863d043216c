// The system calls both sides share, wrapped once: EINTR is retried, CLOEXEC is
// set at birth, and the error is a failure that already names its step and object.
#pragma once

#include <cerrno>
#include <cleanfork/failure.hpp>
#include <cleanfork/unique_fd.hpp>
#include <string>
#include <string_view>
#include <utility>

namespace cleanfork::ipc {

// `call` again while it returns -1 with EINTR.
template <class Call>
auto retry(Call&& call) noexcept(noexcept(call())) -> decltype(call()) {
    for (;;) {
        auto r = call();
        if (r != -1 || errno != EINTR) return r;
    }
}

// A failure of `s` with the given errno. Save errno on the line after the call.
inline failure fail(step s, int error_number, std::string object = {}, std::string detail = {}) {
    return failure{s, error_number, std::move(object), std::move(detail)};
}

// A memfd with `contents`, sealed against any change (F_SEAL_SEAL included), at offset 0.
result<unique_fd> sealed_memfd(const char* name, std::string_view contents);

// A pair of connected AF_UNIX SOCK_SEQPACKET sockets, CLOEXEC, non-blocking.
struct socket_pair {
    unique_fd first, second;
};
result<socket_pair> seqpacket_pair();

// The number of open descriptors of this process.
std::size_t open_descriptor_count();

// Moves `fd` to a free number of at least `minimum` (CLOEXEC) and closes the old
// one. On failure (EMFILE) returns it where it was: the number is a preference.
unique_fd move_up(unique_fd fd, int minimum) noexcept;

// CLOCK_MONOTONIC in nanoseconds.
std::uint64_t monotonic_ns() noexcept;

// The uid of the peer of a connected AF_UNIX socket (SO_PEERCRED), or errno.
struct peer {
    unsigned uid, gid;
    int pid;
};
result<peer> peer_of(int socket);

// Raises the soft RLIMIT_NOFILE to the hard one; returns the soft limit before.
std::uint64_t raise_descriptor_limit() noexcept;

}  // namespace cleanfork::ipc
