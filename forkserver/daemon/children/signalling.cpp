#include "forkserver/daemon/children/signalling.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <memory>
#include <string>

#include "forkserver/daemon/children/tree_walk.hpp"
#include "ipc/base/process_ref.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

namespace {

// A cgroup whose members fork while they are killed needs more than one look.
constexpr int k_cgroup_passes = 64;
constexpr int k_cgroup_depth = 32;

std::string read_all(int directory, const char* name) {
    std::string text;
    const unique_fd fd(::openat(directory, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!fd) return text;
    char part[4096];
    for (;;) {
        const ssize_t n = ipc::retry([&] { return ::read(fd.get(), part, sizeof part); });
        if (n <= 0) return text;
        text.append(part, static_cast<std::size_t>(n));
    }
}

// Signals each process of the cgroup and those below it; returns how many there were.
std::size_t signal_members(int directory, int signal, int depth) {
    std::size_t members = 0;
    const std::string list = read_all(directory, "cgroup.procs");
    for (const char* at = list.data(); at < list.data() + list.size();) {
        int pid = 0;
        const auto [end, error] = std::from_chars(at, list.data() + list.size(), pid);
        if (error == std::errc() && pid > 0) {
            ++members;
            // Through a pidfd opened now: the number was just read, and may be old.
            const unique_fd pidfd = ipc::pidfd_open(pid);
            if (pidfd && signal != 0) ipc::pidfd_signal(pidfd.get(), signal);
        }
        at = end + 1;
    }
    if (depth == 0) return members;
    const int copy = ::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const std::unique_ptr<DIR, int (*)(DIR*)> dir(copy >= 0 ? ::fdopendir(copy) : nullptr,
                                                  &::closedir);
    while (const dirent* e = dir ? ::readdir(dir.get()) : nullptr) {
        if (e->d_type != DT_DIR || e->d_name[0] == '.') continue;
        const unique_fd below(::openat(directory, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (below) members += signal_members(below.get(), signal, depth - 1);
    }
    return members;
}

int signal_cgroup(const child& c, int signal, const signal_means& means) {
    if (!c.origin.cgroup) return EINVAL;
    if (signal == SIGKILL && means.cgroup_kill) {
        const unique_fd kill(
            ::openat(c.origin.cgroup.get(), "cgroup.kill", O_WRONLY | O_CLOEXEC | O_NONBLOCK));
        if (kill && ::write(kill.get(), "1", 1) == 1) return 0;
    }
    const std::size_t members = signal_members(c.origin.cgroup.get(), signal, k_cgroup_depth);
    if (signal == SIGKILL)
        for (int pass = 1; pass < k_cgroup_passes; ++pass)
            if (signal_members(c.origin.cgroup.get(), signal, k_cgroup_depth) == 0) break;
    return members != 0 ? 0 : ESRCH;
}

int signal_group(const child& c, int signal, const signal_means& means) {
    if (!c.origin.leads_group) return EINVAL;
    using by = ipc::process_ref::group_means;
    if (means.group_by_pidfd) return c.process.signal_group(signal);
    return c.has_no_process() ? ESRCH : c.process.signal_group(signal, by::number);
}

bool by_cgroup(const child& c) { return c.origin.tree.by == v1::TREE_MEANS_CGROUP; }

// The number of one that was reaped may be another's.
tree_root root_of(const child& c) {
    return {c.has_no_process() ? 0 : c.process.pid(), c.origin.tree.mark};
}

int signal_whole_tree(const child& c, int signal, const signal_means& means) {
    if (c.origin.tree.by == v1::TREE_MEANS_UNSPECIFIED) return EINVAL;
    return by_cgroup(c) ? signal_cgroup(c, signal, means) : signal_tree(root_of(c), signal);
}

bool anyone_in_cgroup(const child& c) {
    return c.origin.cgroup && signal_members(c.origin.cgroup.get(), 0, k_cgroup_depth) != 0;
}

}  // namespace

int signal_child(const child& c, int signal, signal_target target, const signal_means& means) {
    switch (target) {
        case signal_target::group: return signal_group(c, signal, means);
        case signal_target::cgroup: return signal_cgroup(c, signal, means);
        case signal_target::tree: return signal_whole_tree(c, signal, means);
        case signal_target::process: break;
    }
    return c.has_no_process() ? ESRCH : c.process.signal(signal);
}

bool anyone_left(const child& c, const signal_means& means) {
    switch (c.origin.lifetime.target) {
        case signal_target::group: return signal_group(c, 0, means) == 0;
        case signal_target::cgroup: return anyone_in_cgroup(c);
        case signal_target::tree:
            if (c.origin.tree.by == v1::TREE_MEANS_UNSPECIFIED) break;
            return by_cgroup(c) ? anyone_in_cgroup(c) : anyone_in_tree(root_of(c));
        case signal_target::process: break;
    }
    return !c.exit;
}

}  // namespace cleanfork::daemon
