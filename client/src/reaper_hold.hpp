// What the reaper does for the rest of its life: without memory but for one page of code, its
// stack and the page it shares with the program. So: raw system calls, no libc, no data.
#pragma once

#include <poll.h>

#include <cstdint>

namespace cleanfork::detail {

#if defined(__x86_64__) || defined(__aarch64__) || defined(__riscv)
constexpr bool k_can_hold = true;
#else
constexpr bool k_can_hold = false;  // nobody has written its system call yet
#endif

enum class reaper_stage : std::uint32_t {
    starting,
    serving,  // the forkserver runs, and the reaper has no descriptor of the program
    ended,    // it has ended, or was never begun
};

// Between the program and the reaper, in memory they share, also where an emulator makes a copy for
// CLONE_VM. `stage` is a futex.
struct reaper_page {
    reaper_stage stage;
    int reaper;          // its pid; 0: there is none, by `error_number`
    int forkserver;      // its pid; unreaped while `stage` is not `ended`
    int how, status;     // once it is: si_code and si_status of waitid(2)
    const char* failed;  // what could not be done to begin it, in the program's memory; or null
    int error_number;    // of that
};

struct memory_range {
    std::uintptr_t first, last;  // [first, last)
};

// Where hold() is, in whole pages.
memory_range hold_code() noexcept;

struct hold_plan {
    enum watched { program, forkserver, order, k_watched };

    reaper_page* page;
    memory_range unmapped[3];  // from the lowest; the fourth is all above `above`
    std::uintptr_t above;
    // The pidfd of the program (-1: none), that of the forkserver, and what the program writes to.
    pollfd fds[k_watched];
    char ended_name[16];  // of this process, once the forkserver has ended
};

// Reaps the forkserver when it ends. Ends when the program does, or says so. `plan` is on the
// stack.
[[noreturn]] void hold(hold_plan* plan) noexcept;

}  // namespace cleanfork::detail
