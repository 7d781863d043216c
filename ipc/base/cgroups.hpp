// Directories of cgroup v2.
#pragma once

#include <cleanfork/unique_fd.hpp>
#include <string>

namespace cleanfork::ipc {

// True when the open directory is of a cgroup v2 file system. In any other a file of the same
// name may be a FIFO that blocks, or hold the numbers of processes that are nobody's.
bool is_cgroup(int directory) noexcept;

// The open directory, CLOEXEC. Empty with errno; EBADF, as clone3(2) says it, when it is no cgroup.
// Asks no other file system: the path is one that the kernel has at hand, or begins with the path
// of a mount of cgroup v2 and has no link out of it.
unique_fd open_cgroup(const std::string& path);

// The directory of this process's own cgroup, as far as it is mounted here; else empty.
std::string own_cgroup();

}  // namespace cleanfork::ipc
