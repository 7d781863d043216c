#include "ipc/base/socket_peer.hpp"

#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cleanfork/unique_fd.hpp>
#include <cstdint>
#include <cstring>

#include "ipc/base/sys.hpp"

namespace cleanfork::ipc {

ino_t socket_inode(int socket) noexcept {
    struct statx about {};
    const bool is_told = ::statx(socket, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC,
                                 STATX_TYPE | STATX_INO, &about) == 0;
    return is_told && S_ISSOCK(about.stx_mode) ? about.stx_ino : 0;
}

// The kernel answers within the call that asks, so the answer is there, or there is none.
std::optional<ino_t> peer_inode(int socket) noexcept {
    const ino_t own = socket_inode(socket);
    const unique_fd netlink(
        ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG));
    if (own == 0 || !netlink) return std::nullopt;
    struct {
        nlmsghdr header;
        unix_diag_req body;
    } question{};
    question.header.nlmsg_len = sizeof question;
    question.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
    question.header.nlmsg_flags = NLM_F_REQUEST;
    question.body.sdiag_family = AF_UNIX;
    question.body.udiag_states = ~0U;
    question.body.udiag_ino = static_cast<std::uint32_t>(own);
    question.body.udiag_show = UDIAG_SHOW_PEER;
    question.body.udiag_cookie[0] = question.body.udiag_cookie[1] = ~0U;  // any
    if (retry([&] { return ::send(netlink.get(), &question, sizeof question, 0); }) < 0)
        return std::nullopt;
    alignas(nlmsghdr) char answer[4096];
    const ssize_t size = retry([&] { return ::recv(netlink.get(), answer, sizeof answer, 0); });
    const auto* header = reinterpret_cast<const nlmsghdr*>(answer);
    if (size < 0 || !NLMSG_OK(header, static_cast<std::size_t>(size)) ||
        header->nlmsg_type != SOCK_DIAG_BY_FAMILY ||
        header->nlmsg_len < NLMSG_LENGTH(sizeof(unix_diag_msg)))
        return std::nullopt;
    const auto* about = static_cast<const unix_diag_msg*>(NLMSG_DATA(header));
    auto left = static_cast<int>(header->nlmsg_len - NLMSG_LENGTH(sizeof *about));
    for (const auto* a = reinterpret_cast<const rtattr*>(about + 1); RTA_OK(a, left);
         a = RTA_NEXT(a, left)) {
        std::uint32_t peer = 0;
        if (a->rta_type != UNIX_DIAG_PEER || RTA_PAYLOAD(a) < sizeof peer) continue;
        std::memcpy(&peer, RTA_DATA(a), sizeof peer);
        return peer;
    }
    return std::nullopt;
}

}  // namespace cleanfork::ipc
