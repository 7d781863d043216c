// Where descriptors go that came from others, when nobody needs them any more.
//
// close(2) of the last reference to a file does what the file wants: a TCP socket with SO_LINGER
// waits for its peer, a file of NFS or FUSE for a server. Who is asked by many must not do that.
#pragma once

#include <cleanfork/unique_fd.hpp>
#include <memory>
#include <vector>

#include "forkserver/spawn/plan.hpp"

namespace cleanfork::spawn {

class disposal {
public:
    virtual ~disposal() = default;
    // Closes them, here or elsewhere, without waiting.
    virtual void dispose(std::vector<unique_fd> fds) noexcept = 0;
    void dispose(unique_fd fd) noexcept;
};
using shared_disposal = std::shared_ptr<disposal>;

// Shared until the last owner has gone; then for disposal.
shared_descriptors share(std::vector<unique_fd> fds, const shared_disposal& where);
// The same for a base and its working directory.
std::shared_ptr<session_base> base_for_clients(const shared_disposal& where);

}  // namespace cleanfork::spawn
