#include "ipc/base/close_others.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>

#include "ipc/base/sys.hpp"

namespace cleanfork::ipc {

namespace {

// By getdents64(2), since readdir(3) allocates.
bool close_listed(int first, int last) noexcept {
    const int dir = ::open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) return false;
    alignas(dirent64) char block[4096];
    long size = 0;
    while ((size = ::syscall(SYS_getdents64, dir, block, sizeof block)) > 0)
        for (long at = 0; at < size;) {
            const auto* entry = reinterpret_cast<const dirent64*>(block + at);
            at += entry->d_reclen;
            int fd = 0;
            const char* c = entry->d_name;
            for (; *c >= '0' && *c <= '9'; ++c) fd = fd * 10 + (*c - '0');
            if (*c == '\0' && fd >= first && fd <= last && fd != dir) ::close(fd);
        }
    ::close(dir);
    return size == 0;
}

// Calls `open` with each number that is, by poll(2). The limit may have been lowered since they
// were opened: it says nothing of the numbers, only how many poll(2) takes at once.
template <class Open>
void probe(int first, int last, Open open) noexcept {
    constexpr int k_usual_most = 1 << 20, k_at_once = 1024;
    last = std::min(last, k_usual_most);
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    const int most = static_cast<int>(std::min<rlim_t>(k_at_once, limit.rlim_cur));
    pollfd probes[k_at_once];
    for (int at = first; at <= last;) {
        const int n = std::min(most, last - at + 1);
        for (int i = 0; i < n; ++i) probes[i] = {at + i, 0, 0};
        if (n < 1 || retry([&] { return ::poll(probes, static_cast<nfds_t>(n), 0); }) < 0) {
            if (::fcntl(at, F_GETFD) >= 0) open(at);
            ++at;
            continue;
        }
        for (int i = 0; i < n; ++i)
            if ((probes[i].revents & POLLNVAL) == 0) open(at + i);
        at += n;
    }
}

void close_from_to(int first, int last) noexcept {
    if (first > last) return;
    const auto most = static_cast<unsigned>(last);
    if (::syscall(SYS_close_range, static_cast<unsigned>(first), most, 0U) != 0)
        close_one_by_one(first, last);
}

}  // namespace

void close_one_by_one(int first, int last) noexcept {
    if (!close_listed(first, last)) probe(first, last, [](int fd) { ::close(fd); });
}

std::size_t probed_descriptor_count() noexcept {
    std::size_t open = 0;
    probe(0, INT_MAX, [&open](int) { ++open; });
    return open;
}

void close_others(std::span<int> keep, int first) noexcept {
    std::sort(keep.begin(), keep.end());
    int next = first;
    for (const int fd : keep) {
        if (fd < next) continue;
        close_from_to(next, fd - 1);
        next = fd + 1;
    }
    close_from_to(next, INT_MAX);
}

}  // namespace cleanfork::ipc
