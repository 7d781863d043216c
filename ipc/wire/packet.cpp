#include "ipc/wire/packet.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <new>

#include "ipc/base/sys.hpp"
#include "ipc/wire/limits.hpp"

namespace cleanfork::ipc {

namespace {

// One more than allowed, so that a packet with too many is seen as such and
// not as cut by our own buffer.
constexpr std::size_t k_control_space =
    CMSG_SPACE((k_max_descriptors + 1) * sizeof(int)) + CMSG_SPACE(sizeof(ucred));

std::optional<packet_sender> sender_of(msghdr& message) {
    for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_CREDENTIALS) continue;
        ucred told;
        std::memcpy(&told, CMSG_DATA(c), sizeof told);
        return packet_sender{told.pid, told.uid, told.gid};
    }
    return std::nullopt;
}

// Owned before there is memory for all of them.
std::vector<unique_fd> take_descriptors(msghdr& message) {
    std::array<unique_fd, k_max_descriptors + 1> taken;
    std::size_t count = 0;
    for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
        const std::size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < n; ++i) {
            int fd;
            std::memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof fd);
            if (count < taken.size())
                taken[count++].reset(fd);
            else
                ::close(fd);
        }
    }
    return {std::make_move_iterator(taken.begin()),
            std::make_move_iterator(taken.begin() + static_cast<std::ptrdiff_t>(count))};
}

}  // namespace

receiver::receiver() : buffer_(new char[k_max_inline_body + 1]) {}

received receiver::receive(int socket) {
    iovec part{buffer_.get(), k_max_inline_body + 1};
    alignas(cmsghdr) char control[k_control_space];
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const auto take = [&] {
        return retry([&] { return ::recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC); });
    };
    ssize_t n = take();
    // The other end closed with packets of ours unread: that is told once, and before
    // what it had sent, which is still here (unix_release_sock() of net/unix/af_unix.c).
    if (n < 0 && errno == ECONNRESET) n = take();
    received r;
    if (n < 0) {
        r.error_number = errno;
        const bool nothing = r.error_number == EAGAIN || r.error_number == EWOULDBLOCK;
        r.status = nothing                   ? receive_status::would_block
                   : r.error_number == EPIPE ? receive_status::closed
                                             : receive_status::failed;
        return r;
    }
    std::vector<unique_fd> fds;
    bool is_short = false;
    try {
        fds = take_descriptors(message);
    } catch (const std::bad_alloc&) {  // the packet is here only once
        is_short = true;
    }
    // An empty packet and the end look the same on a SEQPACKET socket; no valid
    // message is empty, so both end the session.
    if (n == 0) {
        r.status = receive_status::closed;
        return r;
    }
    const auto size = static_cast<std::size_t>(n);
    if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || size > k_max_inline_body ||
        fds.size() > k_max_descriptors || is_short) {
        r.status = receive_status::malformed;
        r.error_number = is_short                                ? ENOMEM
                         : (message.msg_flags & MSG_CTRUNC) != 0 ? EMFILE
                                                                 : EMSGSIZE;
        const bool only_cut_by_our_limit = (message.msg_flags & MSG_TRUNC) == 0 &&
                                           size <= k_max_inline_body &&
                                           fds.size() <= k_max_descriptors;
        if (only_cut_by_our_limit) {
            r.body = {buffer_.get(), size};
            r.sender = sender_of(message);
        }
        return r;
    }
    r.status = receive_status::packet;
    r.body = {buffer_.get(), size};
    r.descriptors = std::move(fds);
    r.sender = sender_of(message);
    return r;
}

int tell_senders(int socket) noexcept {
    const int on = 1;
    return ::setsockopt(socket, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0 ? 0 : errno;
}

send_status send_packet(int socket, std::string_view body,
                        std::span<const int> descriptors) noexcept {
    iovec part{const_cast<char*>(body.data()), body.size()};
    alignas(cmsghdr) char control[k_control_space];
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (!descriptors.empty()) {
        const std::size_t bytes = descriptors.size_bytes();
        if (descriptors.size() > k_max_descriptors) {
            errno = EINVAL;
            return send_status::failed;
        }
        message.msg_control = control;
        message.msg_controllen = CMSG_SPACE(bytes);
        std::memset(control, 0, CMSG_SPACE(bytes));
        cmsghdr* c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(bytes);
        std::memcpy(CMSG_DATA(c), descriptors.data(), bytes);
    }
    const ssize_t n =
        retry([&] { return ::sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL); });
    if (n >= 0) return send_status::sent;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return send_status::would_block;
    if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN) return send_status::closed;
    return send_status::failed;
}

}  // namespace cleanfork::ipc
