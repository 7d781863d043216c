#include "forkserver/template/take_call.hpp"

#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "ipc/base/fd.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/limits.hpp"

namespace cleanfork::templates {

namespace {

struct packet {
    ssize_t size = 0;
    int flags = 0;
    std::size_t descriptor_count = 0;
    int descriptors[ipc::k_max_descriptors];
};

void take_descriptors(msghdr& message, packet& p) {
    for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
        p.descriptor_count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        std::memcpy(p.descriptors, CMSG_DATA(c), p.descriptor_count * sizeof(int));
    }
}

// It may have to be waited for: the channel does not block.
void receive(int channel, std::span<char> room, packet& p) {
    iovec part{room.data(), room.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(ipc::k_max_descriptors * sizeof(int))];
    for (;;) {
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        p.size = ipc::retry([&] { return ::recvmsg(channel, &message, MSG_CMSG_CLOEXEC); });
        p.flags = message.msg_flags;
        if (p.size >= 0) return take_descriptors(message, p);
        if (errno != EAGAIN) return;
        pollfd waiting{channel, POLLIN, 0};
        ipc::retry([&] { return ::poll(&waiting, 1, -1); });
    }
}

failure not_whole(int error, const char* why) {
    return ipc::fail(step::prepare, error, "channel", why);
}

// A private copy: its offsets become pointers.
result<std::span<char>> map_large(int fd, std::uint64_t size) {
    struct stat st {};
    if (::fstat(fd, &st) != 0) return not_whole(errno, "the large request cannot be looked at");
    const bool is_pipe = S_ISFIFO(st.st_mode);
    void* at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | (is_pipe ? MAP_ANONYMOUS : 0), is_pipe ? -1 : fd, 0);
    if (at == MAP_FAILED) return not_whole(errno, "the large request cannot be mapped");
    if (is_pipe) {
        const auto body = ipc::pipe_contents(fd, size);
        if (!body) return not_whole(body.error().error_number, "the large request is not whole");
        std::memcpy(at, body->data(), size);
    }
    ::close(fd);
    return std::span(static_cast<char*>(at), size);
}

}  // namespace

result<spawn::call_block*> take_call(int channel, std::span<char> room) {
    packet p;
    receive(channel, room, p);
    if (p.size < 0) return not_whole(errno, "the request did not arrive whole");
    if (p.size == 0) return nullptr;
    if ((p.flags & MSG_CTRUNC) != 0)
        return not_whole(EMFILE, "descriptors of the request did not arrive");
    std::span<char> bytes = room.first(static_cast<std::size_t>(p.size));
    std::span<const int> descriptors(p.descriptors, p.descriptor_count);
    spawn::large_call large;
    if (bytes.size() == sizeof large) {
        std::memcpy(&large, bytes.data(), sizeof large);
        if (large.protocol == spawn::k_template_protocol && large.plan_size == 0 &&
            !descriptors.empty() && large.size <= ipc::k_max_body) {
            auto mapped = map_large(descriptors.front(), large.size);
            if (!mapped) return mapped.error();
            bytes = *mapped;
            descriptors = descriptors.subspan(1);
        }
    }
    spawn::call_block* const call = spawn::open_call(bytes, descriptors);
    if (call == nullptr)
        return not_whole(EPROTO,
                         "the request is not as this version of the template library knows it");
    return call;
}

}  // namespace cleanfork::templates
