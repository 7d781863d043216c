// The reaper: a process between a program and its private forkserver.
//
// It makes the forkserver and its children descendants of the program, as psutil, pstree and
// container tools look for them, and gives the program no child that it did not ask for: its
// exit signal is 0 (clone(2)), so its end sends no SIGCHLD, and no wait(2) without __WALL or
// __WCLONE meets it. An exec would set that signal to SIGCHLD (de_thread() in fs/exec.c); so it is
// a copy of the program that gives its memory up at once.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cleanfork/detail/owning_process.hpp>
#include <cleanfork/unique_fd.hpp>
#include <cstdint>
#include <memory>
#include <optional>

#include "client/src/reaper_hold.hpp"

namespace cleanfork::detail {

// As posix_spawn(3): runs `act(what)` in a new process that shares this one's memory, while the
// thread sleeps until that has exited or exec'ed. No handler of the program may run in the
// memory that the two share, and no cancellation of its thread. Its pid; -1 with errno.
pid_t start_sharing_memory(int (*act)(void*), void* what, int exit_signal);

// Thread-safety: that of an int.
class reaper {
public:
    reaper(const reaper&) = delete;
    reaper& operator=(const reaper&) = delete;
    // Lets go of the process; it goes on.
    ~reaper();

    // `become` makes its process the forkserver by exec, or puts into *told, which `telling`
    // points to in `what`, why it could not. Waits for either. Null with errno when there can be
    // no reaper.
    static std::unique_ptr<reaper> start(int (*become)(void*), void* what, reaper_page** telling);

    [[nodiscard]] const reaper_page& page() const noexcept { return *page_; }
    // Waits so long for the forkserver's end; kills it then. Its wait(2) status when it is known.
    std::optional<int> end_forkserver(std::chrono::milliseconds patience);
    // Ends it, at once. Once this process is one that inherits orphans, an init or a subreaper, it
    // is left alone: it outlives the forkserver, which would else become this process's child.
    void end();

private:
    reaper(reaper_page* page, pid_t pid, unique_fd order) noexcept
        : page_(page), pid_(pid), order_(std::move(order)) {}
    bool await_stage(reaper_stage least, std::chrono::milliseconds patience) const;
    [[nodiscard]] bool lives() const noexcept;

    reaper_page* page_;
    pid_t pid_;
    unique_fd order_;
};

// True when orphans of its descendants become this process's children.
bool inherits_orphans() noexcept;
// Bytes of memory that a copy of this process would have to describe, page by page; empty
// without /proc.
std::optional<std::uint64_t> private_memory();
// Ends the reapers that have nothing to wait for: those of a program that was replaced by exec,
// and those that end() left alone.
void end_idle_reapers();

}  // namespace cleanfork::detail
