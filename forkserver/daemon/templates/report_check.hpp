// Whether a report of a template is to be believed.
//
// A report is a peer's word, and the socket it comes from may be in more hands than it should: a
// process of the same user that may trace the template can take it (pidfd_getfd(2)). So the
// forkserver believes nothing that the kernel can tell it: who has sent the packet
// (SCM_CREDENTIALS), whose process a pidfd is, whose child that is, and whether it has ended.
#pragma once

#include <cleanfork/failure.hpp>
#include <cleanfork/unique_fd.hpp>
#include <vector>

#include "ipc/base/process_ref.hpp"
#include "ipc/wire/packet.hpp"

namespace cleanfork::daemon {

// The process of the sender, a child of the template `parent`, or of the forkserver once that has
// ended (by its pidfd; -1: it has). Through the pidfd that the sender has sent; without one, when
// that was `cut` (an errno; else 0), through one that is opened here. Fails with EPERM when it is
// something else, and with `cut` when it has ended and been reaped meanwhile.
result<ipc::process_ref> process_of_sender(const ipc::packet_sender& sender,
                                           std::vector<unique_fd>& descriptors, int cut,
                                           pid_t parent, int parent_pidfd);

}  // namespace cleanfork::daemon
