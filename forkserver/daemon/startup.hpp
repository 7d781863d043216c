// What the process must be before it serves: clean, deaf to signals, nobody's child.
#pragma once

#include <cleanfork/failure.hpp>
#include <cleanfork/unique_fd.hpp>
#include <optional>

#include "forkserver/daemon/listener.hpp"
#include "forkserver/daemon/options.hpp"

namespace cleanfork::daemon {

// What children inherit through us is put right once, and not in each of them: standard
// descriptors, dispositions, mask, umask. Other users cannot trace it from then on.
void become_clean();

// Where clients come from.
struct endpoints {
    unique_fd private_socket;
    unique_fd early;  // the control socket of an early template
    std::optional<listening_socket> listening;
};

// Closes all descriptors but these and the standard ones.
result<endpoints> open_endpoints(const options& o);

// The launcher reaps this process at once, and the forkserver is nobody's child
// but init's: it disturbs neither SIGCHLD nor wait of the program that asked.
result<void> leave_parent();

// TERM, INT and HUP are read from the descriptor that it gives; a write to a closed pipe, or
// beyond RLIMIT_FSIZE, is an error of the write.
result<unique_fd> block_signals();

}  // namespace cleanfork::daemon
