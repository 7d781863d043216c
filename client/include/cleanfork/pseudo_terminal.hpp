// A new pseudo terminal: what stdio::pty makes for a child, for other uses.
//
// Thread-safety: all functions may be called from many threads at once.
#pragma once

#include <cleanfork/error.hpp>
#include <cleanfork/spawn_options.hpp>
#include <cleanfork/unique_fd.hpp>

namespace cleanfork {

struct pty_pair {
    unique_fd master;     // the caller's; blocking
    unique_fd child_end;  // the terminal itself
};

// Both ends are CLOEXEC, and the terminal is nobody's controlling one. step::request, with the
// call that failed: EMFILE; ENOSPC when kernel.pty.max are open; ENOENT without /dev/ptmx.
CLEANFORK_EXPORT result<pty_pair> open_pty(const stdio::pty& settings = {});

// The size that programs at the terminal see; its foreground process group gets SIGWINCH
// when it changes. `master` is borrowed.
CLEANFORK_EXPORT result<void> resize_pty(int master, unsigned short rows, unsigned short columns);

}  // namespace cleanfork
