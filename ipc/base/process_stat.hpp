// What /proc/PID/stat tells of a process: proc_pid_stat(5).
#pragma once

#include <fcntl.h>
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string_view>

namespace cleanfork::ipc {

struct process_stat {
    char state = 0;  // as ps(1) shows it
    pid_t parent = 0;
    pid_t group = 0;
    pid_t session = 0;
    int terminal = 0;  // its device; 0 without one
    int threads = 0;
    std::uint64_t started = 0;  // ticks since boot; with the pid it names a process for good

    // By a signal, or by a debugger.
    [[nodiscard]] bool is_stopped() const noexcept { return state == 'T' || state == 't'; }
    // A zombie whose threads have all ended; one whose first thread ended alone lives on.
    [[nodiscard]] bool is_dead() const noexcept {
        return state == 'X' || (state == 'Z' && threads <= 1);
    }
};

// Of such a text; nothing when it is none.
std::optional<process_stat> parse_stat(std::string_view text) noexcept;

// Empty with errno when there is no such process, or /proc hides it. `proc` is a descriptor of
// /proc, or AT_FDCWD.
std::optional<process_stat> stat_of(pid_t pid, int proc = AT_FDCWD);

}  // namespace cleanfork::ipc
