// One packet of an AF_UNIX SOCK_SEQPACKET socket: bytes, and the descriptors with them.
//
// Ownership: received descriptors are owned by the `received`; sent ones are borrowed.
#pragma once

#include <cleanfork/unique_fd.hpp>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace cleanfork::ipc {

enum class receive_status {
    packet,       // body and descriptors are valid
    would_block,  // nothing there
    closed,       // the peer has closed: no more packets
    malformed,    // too large, cut, or descriptors cut (MSG_TRUNC, MSG_CTRUNC), or too many
    failed,       // error_number says why
};

// Who sent a packet, as the kernel has it: the process and its real ids at that moment.
struct packet_sender {
    int pid = 0;  // 0: it is not of this PID namespace
    unsigned uid = 0;
    unsigned gid = 0;
};

struct received {
    receive_status status = receive_status::would_block;
    int error_number = 0;
    std::string_view
        body;  // the receiver's, until its next receive(); also when only descriptors were cut
    std::vector<unique_fd> descriptors;     // also of a packet that is not valid
    std::optional<packet_sender> sender{};  // of a socket of tell_senders()
};

// From now on each packet that is received here names its sender (SO_PASSCRED); no packet that
// was sent before does. Returns errno, or 0.
int tell_senders(int socket) noexcept;

// Ends a connection, both ways. True when its queue is empty, and stays so: else descriptors may be
// in it, which are closed with the socket.
bool end_connection(int socket) noexcept;

// Not thread-safe: one buffer, one reader at a time.
class receiver {
public:
    receiver();

    // recvmsg with MSG_DONTWAIT and MSG_CMSG_CLOEXEC. What arrived with a malformed packet is the
    // caller's to close: near RLIMIT_NOFILE the kernel installs some descriptors, sets MSG_CTRUNC
    // and succeeds.
    received receive(int socket);

private:
    std::unique_ptr<char[]> buffer_;
};

enum class send_status { sent, would_block, closed, failed };

// sendmsg with MSG_DONTWAIT and MSG_NOSIGNAL; errno is set when failed. A packet
// is sent whole or not at all. `descriptors` holds at most k_max_descriptors.
send_status send_packet(int socket, std::string_view body,
                        std::span<const int> descriptors) noexcept;

}  // namespace cleanfork::ipc
