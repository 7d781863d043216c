#include "forkserver/spawn/child_descriptors.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>

#include "ipc/base/close_others.hpp"
#include "ipc/base/raw_call.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::spawn {

namespace {

using ipc::error_of;
using ipc::raw_call;

constexpr unsigned k_close_range_unshare = 1U << 1;
constexpr unsigned k_close_range_cloexec = 1U << 2;

}  // namespace

// Of a shared table a private copy is made, of what is below the socket and with it: nothing of
// that is anybody's but the forkserver's. All that is CLOEXEC, as every descriptor of the
// forkserver is from its birth.
int close_descriptors(const child_context& c) noexcept {
    if (c.channel >= 0) {
        const int first = c.channel + 1;
        const int e =
            error_of(raw_call(SYS_close_range, first, ~0U, unsigned{k_close_range_unshare}));
        if (e == 0 && c.lowest_channel < c.channel)
            raw_call(SYS_close_range, c.lowest_channel, c.channel - 1, 0U);
        return e;
    }
    const int e =
        error_of(raw_call(SYS_close_range, c.p->close_from, ~0U, unsigned{k_close_range_cloexec}));
    // Without close_range (before Linux 5.9) CLOEXEC at birth does it alone.
    return ipc::is_missing(e) || e == EINVAL ? 0 : e;
}

namespace {

constexpr int k_received_at_once = 64;

// Into `fds`, how many in `count`. 0, or errno.
int receive_some(int channel, int* fds, int& count) noexcept {
    char byte = 0;
    iovec part{&byte, 1};
    alignas(cmsghdr) char control[CMSG_SPACE(k_received_at_once * sizeof(int))];
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const long n = raw_call(SYS_recvmsg, channel, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0) return error_of(n);
    const cmsghdr* const c = CMSG_FIRSTHDR(&message);
    if (c == nullptr || (message.msg_flags & MSG_CTRUNC) != 0) return EMFILE;
    count = static_cast<int>((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    std::memcpy(fds, CMSG_DATA(c), static_cast<std::size_t>(count) * sizeof(int));
    return 0;
}

constexpr int k_low_numbers = 256;  // of what was received, and more

// Which of the sources is somebody's target, now that their numbers are known.
void find_collisions(plan& p) noexcept {
    bool taken[k_low_numbers] = {};
    for (std::size_t i = 0; i < p.move_count; ++i)
        if (p.moves[i].target < k_low_numbers) taken[p.moves[i].target] = true;
    for (std::size_t i = 0; i < p.move_count; ++i) {
        descriptor_move& m = p.moves[i];
        m.collides = m.source != m.target && (m.source >= k_low_numbers || taken[m.source]);
    }
}

}  // namespace

// What birth_place::send() has sent: each source once, in the order of the plan.
int receive_descriptors(const child_context& c) noexcept {
    if (c.channel < 0) return 0;
    int sent[k_most_sources], received[k_most_sources];
    int count = 0, known = 0, e = 0;
    each_source(*c.p, c.channel + 1, [&](int& fd) noexcept {
        const int at = static_cast<int>(std::find(sent, sent + known, fd) - sent);
        if (e == 0 && at == known) {
            int n = 0;
            if (known == count) {
                e = known > k_most_sources - k_received_at_once
                        ? E2BIG
                        : receive_some(c.channel, received + count, n);
                count += n;
            }
            sent[known++] = fd;
        }
        if (e == 0) fd = received[at];
    });
    if (e != 0) return e;
    c.report->received = 1;
    find_collisions(*c.p);
    return 0;
}

namespace {

// Of two that differ.
long dup_onto(int source, int target) noexcept {
#ifdef SYS_dup2
    return raw_call(SYS_dup2, source, target);
#else
    return raw_call(SYS_dup3, source, target, 0);
#endif
}

bool is_target(const plan& p, long number) noexcept {
    return std::any_of(p.moves, p.moves + p.move_count,
                       [=](const descriptor_move& m) { return m.target == number; });
}

// Above all targets; where the limit leaves no room there, between them.
int move_away(const plan& p, int& fd) noexcept {
    long moved = raw_call(SYS_fcntl, fd, F_DUPFD_CLOEXEC, p.highest_target + 1);
    if (moved < 0 && p.highest_target >= k_low_numbers) {
        moved = raw_call(SYS_fcntl, fd, F_DUPFD_CLOEXEC, k_low_numbers);
        while (moved >= 0 && is_target(p, moved))
            moved = raw_call(SYS_fcntl, fd, F_DUPFD_CLOEXEC, moved + 1);
    }
    if (moved < 0) return error_of(moved);
    fd = static_cast<int>(moved);
    return 0;
}

// Sources whose number is a target go above all targets first, so that swaps
// and cycles work; then each is put in its place.
int place_each(plan& p, int& index) noexcept {
    for (std::size_t i = 0; i < p.move_count; ++i) {
        index = static_cast<int>(i);
        descriptor_move& m = p.moves[i];
        if (!m.collides) continue;
        if (const int e = move_away(p, m.source)) return e;
    }
    for (std::size_t i = 0; i < p.move_count; ++i) {
        index = static_cast<int>(i);
        const descriptor_move& m = p.moves[i];
        const long r = m.source == m.target ? raw_call(SYS_fcntl, m.target, F_SETFD, 0)
                                            : dup_onto(m.source, m.target);
        if (const int e = error_of(r)) return e;
    }
    return 0;
}

// The descriptors the later steps use are no one's target after this.
int keep_tools(plan& p) noexcept {
    int joined_later = p.becomes_caller && p.join_cgroup ? p.cgroup_fd : -1;
    for (int* fd : {&p.cwd_fd, &p.program_fd, &joined_later})
        for (std::size_t i = 0; *fd >= 0 && i < p.move_count; ++i)
            if (p.moves[i].target == *fd) {
                if (const int e = move_away(p, *fd)) return e;
                break;
            }
    if (joined_later >= 0) p.cgroup_fd = joined_later;
    return 0;
}

}  // namespace

int place_descriptors(plan& p, int& index) noexcept {
    if (const int e = keep_tools(p)) return e;
    return place_each(p, index);
}

namespace {

int close_from_to(unsigned first, unsigned last) noexcept {
    if (first > last) return 0;
    const int e = error_of(raw_call(SYS_close_range, first, last, 0U));
    if (!ipc::is_missing(e)) return e;
    ipc::close_one_by_one(static_cast<int>(first),
                          static_cast<int>(std::min(last, unsigned{INT_MAX})));
    return 0;
}

}  // namespace

int close_unmapped(plan& p, std::span<const int> kept, std::span<const int> own) noexcept {
    std::sort(
        p.moves, p.moves + p.move_count,
        [](const descriptor_move& a, const descriptor_move& b) { return a.target < b.target; });
    unsigned next = 0;
    std::size_t at = 0;
    for (;;) {
        // The lowest of what stays, from `next` on.
        unsigned stays = ~0U;
        while (at < p.move_count && static_cast<unsigned>(p.moves[at].target) < next) ++at;
        if (at < p.move_count) stays = static_cast<unsigned>(p.moves[at].target);
        for (const std::span<const int> fds : {kept, own})
            for (const int fd : fds)
                if (fd >= 0 && static_cast<unsigned>(fd) >= next)
                    stays = std::min(stays, static_cast<unsigned>(fd));
        if (stays == ~0U) return close_from_to(next, ~0U);
        if (stays > next)
            if (const int e = close_from_to(next, stays - 1)) return e;
        next = stays + 1;
    }
}

}  // namespace cleanfork::spawn
