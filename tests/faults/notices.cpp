#include "tests/faults/notices.hpp"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <iterator>

namespace cleanfork::faults {

namespace {

// The one socket through which a watched process may still speak unwatched: it hands over the
// listener, which nobody reads before.
constexpr int k_door = 250;

constexpr auto k_load = static_cast<std::uint16_t>(BPF_LD | BPF_W | BPF_ABS);
constexpr auto k_equal = static_cast<std::uint16_t>(BPF_JMP | BPF_JEQ | BPF_K);
constexpr auto k_return = static_cast<std::uint16_t>(BPF_RET | BPF_K);

// Ends and returns from signal handlers pass by themselves.
int install_filter() {
    sock_filter code[] = {
        {k_load, 0, 0, offsetof(seccomp_data, nr)},
        {k_equal, 6, 0, SYS_exit_group},
        {k_equal, 5, 0, SYS_exit},
        {k_equal, 4, 0, SYS_rt_sigreturn},
        {k_equal, 0, 2, SYS_sendmsg},
        {k_load, 0, 0, offsetof(seccomp_data, args)},
        {k_equal, 1, 0, k_door},
        {k_return, 0, 0, SECCOMP_RET_USER_NOTIF},
        {k_return, 0, 0, SECCOMP_RET_ALLOW},
    };
    sock_fprog program{static_cast<unsigned short>(std::size(code)), code};
    // What waits is not interrupted by signals but that which kills (Linux 5.19).
    for (const unsigned long flags :
         {SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
          SECCOMP_FILTER_FLAG_NEW_LISTENER}) {
        const long fd = ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
        if (fd >= 0 || errno != EINVAL) return static_cast<int>(fd);
    }
    return -1;
}

union descriptor_space {
    cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
};

}  // namespace

void be_watched(int to) {
    if (::geteuid() != 0) ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    ::dup2(to, k_door);
    char byte = 0;
    iovec part{&byte, 1};
    descriptor_space space{};
    msghdr m{};
    m.msg_iov = &part;
    m.msg_iovlen = 1;
    m.msg_control = space.bytes;
    m.msg_controllen = sizeof space.bytes;
    space.header.cmsg_level = SOL_SOCKET;
    space.header.cmsg_type = SCM_RIGHTS;
    space.header.cmsg_len = CMSG_LEN(sizeof(int));
    const int listener = install_filter();
    if (listener < 0) {
        std::perror("faults: seccomp");
        ::_exit(99);
    }
    std::memcpy(CMSG_DATA(&space.header), &listener, sizeof listener);
    if (::sendmsg(k_door, &m, MSG_NOSIGNAL) != 1) ::_exit(99);
    ::close(listener);
    ::close(k_door);
}

unique_fd take_listener(int from) {
    char byte = 0;
    iovec part{&byte, 1};
    descriptor_space space{};
    msghdr m{};
    m.msg_iov = &part;
    m.msg_iovlen = 1;
    m.msg_control = space.bytes;
    m.msg_controllen = sizeof space.bytes;
    if (::recvmsg(from, &m, MSG_CMSG_CLOEXEC) != 1 || m.msg_controllen == 0) return {};
    int listener = -1;
    std::memcpy(&listener, CMSG_DATA(&space.header), sizeof listener);
    // Both sides on one processor, one after the other (Linux 6.6, SECCOMP_IOCTL_NOTIF_SET_FLAGS
    // and SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP).
    ::ioctl(listener, SECCOMP_IOW(4, std::uint64_t), 1UL);
    return unique_fd(listener);
}

std::optional<notice> take_notice(int listener) {
    seccomp_notif n{};
    if (::ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &n) != 0) return std::nullopt;
    notice out{n.id, static_cast<pid_t>(n.pid), n.data.nr, {}};
    for (std::size_t i = 0; i < out.args.size(); ++i) out.args[i] = n.data.args[i];
    return out;
}

void let_pass(int listener, const notice& n) {
    seccomp_notif_resp r{};
    r.id = n.id;
    r.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    ::ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &r);
}

void answer(int listener, const notice& n, int error_number) {
    seccomp_notif_resp r{};
    r.id = n.id;
    r.error = -error_number;
    ::ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &r);
}

}  // namespace cleanfork::faults
