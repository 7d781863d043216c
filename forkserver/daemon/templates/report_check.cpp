#include "forkserver/daemon/templates/report_check.hpp"

#include <unistd.h>

#include <cerrno>
#include <string>

#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

namespace {

// Of a report that is true: its child may be past it.
failure not_taken(int error_number, pid_t child) {
    return ipc::fail(step::child_start, error_number, "pidfd " + std::to_string(child),
                     "the forkserver could not take its child, which was killed; its entry may "
                     "have begun");
}

failure not_believed(const char* why) { return ipc::fail(step::child_start, EPERM, "report", why); }

}  // namespace

result<ipc::process_ref> process_of_sender(const ipc::packet_sender& sender,
                                           std::vector<unique_fd>& descriptors, int cut,
                                           pid_t parent, int parent_pidfd) {
    if (sender.pid <= 0) return not_believed("its sender is in another PID namespace");
    if (descriptors.size() > 1) return not_believed("it has more than one descriptor");
    const bool lacks_pidfd = descriptors.empty() || !descriptors.front();
    // A short child may be over before it is looked for: what it lacked is told, not that.
    const auto gone = [&] {
        return cut != 0 ? not_taken(cut, sender.pid) : not_believed("its sender has ended");
    };
    unique_fd opened = lacks_pidfd ? ipc::pidfd_open(sender.pid) : unique_fd();
    if (lacks_pidfd && !opened) return errno == ESRCH ? gone() : not_taken(errno, sender.pid);
    // What is not believed stays where it was.
    unique_fd& pidfd = lacks_pidfd ? opened : descriptors.front();
    errno = 0;
    const auto facts = ipc::look_at_pidfd(pidfd.get());
    if (!facts && (errno == ENOMEM || errno == EMFILE || errno == ENFILE || errno == EIO))
        return not_taken(errno, sender.pid);
    if (!facts) return not_believed("its descriptor is no pidfd");
    // One that was reaped since can be signalled no more, whoever it was.
    if (facts->pid == 0 && lacks_pidfd) return gone();
    if (facts->pid == 0) return ipc::process_ref(sender.pid, std::move(pidfd));
    if (facts->pid != sender.pid) return not_believed("its pidfd is that of another process");
    // Asked now: before, it may still have been there.
    const auto has_ended = [parent_pidfd] {
        return parent_pidfd < 0 || ipc::pidfd_wait(parent_pidfd, ipc::pidfd_event::ended, 0);
    };
    const bool is_child = facts->parent == parent || (facts->parent == ::getpid() && has_ended());
    if (!is_child) return not_believed("its sender is no child of the template");
    return ipc::process_ref(sender.pid, std::move(pidfd));
}

}  // namespace cleanfork::daemon
