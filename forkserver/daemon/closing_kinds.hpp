// Which descriptors can be closed without waiting for anybody.
#pragma once

#include <sys/types.h>

#include "ipc/base/mounts.hpp"

namespace cleanfork::daemon {

// An allow list: anonymous pipes, pidfds, /dev/null and its like, and files and directories of
// local file systems, unless that would free much. Everything else may wait: a socket for its
// peer, or for the peers of sockets that are in its queue, a file for the server it is of, a
// serial line for what it is still to send.
class closing_kinds {
public:
    closing_kinds() noexcept;

    [[nodiscard]] bool closes_at_once(int fd);

private:
    dev_t pipes_ = 0, memory_files_ = 0, pidfds_ = 0;  // the kernel's own file systems
    ipc::mount_table mounts_;
};

}  // namespace cleanfork::daemon
