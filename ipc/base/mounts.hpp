// Which file systems are local: those that ask no server, and no other process, for anything.
#pragma once

#include <cleanfork/unique_fd.hpp>
#include <cstdint>
#include <unordered_map>

namespace cleanfork::ipc {

// The mounts that this process sees, as /proc/self/mountinfo has them; read again only after the
// kernel has told that they changed (proc_pid_mountinfo(5)). Reading it asks no file system.
//
// Not thread-safe.
class mount_table {
public:
    mount_table() noexcept;

    // The file system of a mount is one of a fixed list of local ones. False for a mount that is
    // not seen here, and everywhere without /proc. `mount` as statx(2) tells it.
    [[nodiscard]] bool is_local(std::uint64_t mount);

private:
    [[nodiscard]] bool changed() const noexcept;
    void read();

    unique_fd file_;
    bool is_read_ = false;
    std::unordered_map<std::uint64_t, bool> local_;
};

}  // namespace cleanfork::ipc
