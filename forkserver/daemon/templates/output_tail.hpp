// The last words of a template: the end of its standard output and error.
#pragma once

#include <cleanfork/unique_fd.hpp>
#include <string>

#include "forkserver/daemon/loop/event_loop.hpp"
#include "forkserver/daemon/loop/watched_fd.hpp"

namespace cleanfork::daemon {

class output_tail {
public:
    // The reading end of a pipe, non-blocking; none: there is no output. Throws when it cannot be
    // watched.
    output_tail(event_loop& io, unique_fd pipe);

    // Reads what has come. False at the end of the output.
    bool drain();
    // The last 4 KiB of what was read.
    [[nodiscard]] const std::string& text() const noexcept { return text_; }

private:
    void await();

    watched_fd pipe_;
    std::string text_;
};

}  // namespace cleanfork::daemon
