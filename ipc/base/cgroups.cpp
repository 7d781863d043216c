#include "ipc/base/cgroups.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <sstream>

#include "ipc/base/proc.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::ipc {

namespace {

constexpr unsigned k_resolve_cached = 0x20;  // RESOLVE_CACHED, Linux 5.12
constexpr int k_kernfs_handle = 0xfe;        // FILEID_KERNFS, Linux 5.5
constexpr int k_plain_handle = 1;            // FILEID_INO32_GEN, and what kernfs had before

unique_fd open_at(int from, const char* path, int flags, std::uint64_t resolve) noexcept {
    open_how how{};
    how.flags = static_cast<std::uint64_t>(flags | O_DIRECTORY | O_CLOEXEC);
    how.resolve = resolve;
    const long fd = retry([&] { return ::syscall(SYS_openat2, from, path, &how, sizeof how); });
    return unique_fd(static_cast<int>(fd));
}

// What kind of file system it is, as that tells it without asking a server: fstatfs(2) of FUSE or
// NFS may never come back.
bool may_be_kernfs(int directory) noexcept {
    union {
        struct file_handle handle;
        char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
    } h{};
    h.handle.handle_bytes = MAX_HANDLE_SZ;
    int mount = 0;
    if (::name_to_handle_at(directory, "", &h.handle, &mount, AT_EMPTY_PATH) != 0)
        return is_missing(errno);
    return h.handle.handle_type == k_kernfs_handle || h.handle.handle_type == k_plain_handle;
}

// From the root of its mount, which it does not leave: no other file system is asked.
unique_fd open_below_mount(const std::string& path) {
    for (const std::string& mount : cgroup_mounts()) {
        if (!path.starts_with(mount)) continue;
        const std::string rest = path.substr(mount.size());
        if (!rest.empty() && rest.front() != '/' && !mount.ends_with('/')) continue;
        const std::size_t begin = rest.find_first_not_of('/');
        const unique_fd root(::open(mount.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
        if (!root) return {};
        const char* const below = begin == std::string::npos ? "." : rest.c_str() + begin;
        unique_fd fd = open_at(root.get(), below, O_RDONLY, RESOLVE_BENEATH | RESOLVE_NO_XDEV);
        if (fd || !is_missing(errno)) return fd;
        return unique_fd(::openat(root.get(), below, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    }
    // In none. Not found, then, as far as that can be said without leaving the root's mount.
    if (open_at(AT_FDCWD, path.c_str(), O_PATH, RESOLVE_NO_XDEV) || errno == EXDEV) errno = EBADF;
    return {};
}

// A path may lead through any file system, and opening a directory asks its own.
unique_fd open_without_asking(const std::string& path) {
    const unique_fd known = open_at(AT_FDCWD, path.c_str(), O_PATH, k_resolve_cached);
    if (!known) return open_below_mount(path);
    if (may_be_kernfs(known.get()))
        return unique_fd(::openat(known.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    errno = EBADF;
    return {};
}

// The path may be relative to another root than that of the mount, so the kernel is asked.
bool lists_this_process(const std::string& cgroup) {
    const unique_fd directory = open_cgroup(cgroup);
    if (!directory) return false;
    std::istringstream members(read_file(directory.get(), "cgroup.procs").value_or(""));
    for (pid_t pid = 0; members >> pid;)
        if (pid == ::getpid()) return true;
    return false;
}

}  // namespace

bool is_cgroup(int directory) noexcept {
    struct statfs about {};
    return may_be_kernfs(directory) && retry([&] { return ::fstatfs(directory, &about); }) == 0 &&
           about.f_type == CGROUP2_SUPER_MAGIC;
}

unique_fd open_cgroup(const std::string& path) {
    unique_fd directory = open_without_asking(path);
    if (!directory || is_cgroup(directory.get())) return directory;
    errno = EBADF;
    return {};
}

std::string own_cgroup() {
    const std::string all = "\n" + read_file(AT_FDCWD, "/proc/self/cgroup").value_or("");
    const std::size_t at = all.find("\n0::/");
    if (at == std::string::npos) return {};
    const std::size_t begin = at + 4;
    const std::string path = all.substr(begin, all.find('\n', begin) - begin);
    for (const std::string& mount : cgroup_mounts()) {
        std::string cgroup = mount + (path == "/" ? "" : path);
        if (lists_this_process(cgroup)) return cgroup;
    }
    return {};
}

}  // namespace cleanfork::ipc
