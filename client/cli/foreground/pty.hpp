// A new pseudoterminal: our end and the child's.
#pragma once

#include <sys/ioctl.h>
#include <termios.h>

#include <cleanfork/unique_fd.hpp>
#include <optional>

#include "client/cli/options/values.hpp"

namespace cleanfork::cli {

struct pty_pair {
    unique_fd master;  // non-blocking
    unique_fd slave;
};

// With the modes of `like`, or, without, those of a new terminal but no echo and no flow control
// by keys: input that comes from a file or pipe is not to show up in the output, or to stop it.
parsed<pty_pair> open_pty(const termios* like);

// The size of the first of 0, 1 and 2 that is a terminal.
std::optional<winsize> outer_window_size() noexcept;

}  // namespace cleanfork::cli
