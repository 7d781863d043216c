#include "ipc/base/cgroups.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <sstream>

#include "ipc/base/proc.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::ipc {

namespace {

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
    return retry([&] { return ::fstatfs(directory, &about); }) == 0 &&
           about.f_type == CGROUP2_SUPER_MAGIC;
}

unique_fd open_cgroup(const std::string& path) noexcept {
    unique_fd directory(
        retry([&] { return ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
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
