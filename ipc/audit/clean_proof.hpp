// Proves again and again that one process has one thread and no descriptor that a
// fork must not copy: the audit for the hot path, before every fork of a template.
//
// What it holds open of /proc means this process for ever, and never another one that got its pid
// later.
#pragma once

#include <sys/types.h>

#include <cleanfork/failure.hpp>
#include <cleanfork/unique_fd.hpp>
#include <optional>
#include <span>

#include "ipc/audit/audit.hpp"

namespace cleanfork::ipc {

struct process_counts {
    std::size_t threads = 0;
    std::optional<std::size_t> descriptors;  // Linux 6.2 and later
};

class clean_proof {
public:
    // Takes three descriptors. Fails like audit().
    static result<clean_proof> open(pid_t pid);

    // Two fstat(2). Equal counts do not prove that nothing changed: a descriptor may
    // have been closed and another opened. Fails with ESRCH when the process was
    // reaped; a zombie counts one thread and no descriptors.
    [[nodiscard]] result<process_counts> counts() const;

    // Threads, descriptors but those in `allowed`, and pending signals; nothing else
    // that audit() looks at. Tells which signals have not their default action. Allocates only for
    // what it finds. Fails with ESRCH when the process has ended. `passing`: inodes of sockets that
    // are on their way through the process, whatever number they have there. `threads`: whether
    // those are told with their libraries, which takes long.
    enum class threads { described, counted };
    [[nodiscard]] result<audit_report> check(std::span<const int> allowed = {},
                                             std::span<const ino_t> passing = {},
                                             threads t = threads::described) const;

private:
    clean_proof() = default;
    int add_status(audit_report& report) const;

    pid_t pid_ = 0;
    unique_fd status_;       // /proc/PID/status
    unique_fd tasks_;        // /proc/PID/task, O_PATH
    unique_fd descriptors_;  // /proc/PID/fd, to be listed
    bool counts_descriptors_ = false;
};

}  // namespace cleanfork::ipc
