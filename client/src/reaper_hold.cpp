// Compiled by flags of its own (client/CMakeLists.txt): no sanitizer, no stack protector, no call
// that the compiler makes up. After the first munmap() there is nothing but this section's code.
#include "client/src/reaper_hold.hpp"

#include <linux/futex.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cerrno>

#include "ipc/base/raw_call.hpp"

// Of the linker: the bounds of the section.
extern "C" {
[[gnu::visibility("hidden")]] extern const char __start_cleanfork_hold[];
[[gnu::visibility("hidden")]] extern const char __stop_cleanfork_hold[];
}

namespace cleanfork::detail {

namespace {

#define ALWAYS [[gnu::always_inline]] inline

// Where there is no way but through libc, which is unmapped by then, there is none.
ALWAYS long raw(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0) noexcept {
    if constexpr (ipc::k_has_raw_call)
        return ipc::detail::raw(number, a, b, c, d, e);
    else
        return -ENOSYS;
}

ALWAYS long address_of(const void* p) noexcept { return reinterpret_cast<long>(p); }

ALWAYS long unmap(std::uintptr_t first, std::uintptr_t last) noexcept {
    if (first >= last) return 0;
    return raw(SYS_munmap, static_cast<long>(first), static_cast<long>(last - first));
}

// In parts, where a mapping is sealed, mseal(2): the kernel refuses a range that touches one.
ALWAYS void unmap_around_seals(std::uintptr_t first, std::uintptr_t last) noexcept {
    constexpr std::uintptr_t k_least = std::uintptr_t{1} << 21;
    for (std::uintptr_t size = last - first; first < last;) {
        if (size > last - first) size = last - first;
        if (unmap(first, first + size) != 0 && size > k_least) {
            size = (size / 2 + k_least - 1) & ~(k_least - 1);
            continue;
        }
        first += size;
        size *= 2;
    }
}

// Up to where the address space ends, which only trying tells.
ALWAYS void unmap_above(std::uintptr_t first) noexcept {
    constexpr unsigned k_widest = 57, k_narrowest = 30;
    for (unsigned bits = k_widest; bits > k_narrowest; --bits) {
        const std::uintptr_t end = (std::uintptr_t{1} << bits) - 4096;
        const long r = unmap(first, end);
        if (r == -EINVAL) continue;
        if (r != 0) unmap_around_seals(first, end);
        return;
    }
}

ALWAYS void reap(hold_plan* plan) noexcept {
    reaper_page* const page = plan->page;
    siginfo_t info;
    info.si_code = info.si_status = 0;
    // Not reaped before it is told: until then the program may open a pidfd by its number.
    raw(SYS_waitid, P_PID, page->forkserver, address_of(&info), WEXITED | WNOWAIT);
    page->how = info.si_code;
    page->status = info.si_status;
    reaper_stage ended = reaper_stage::ended;
    __atomic_store(&page->stage, &ended, __ATOMIC_RELEASE);
    raw(SYS_futex, address_of(&page->stage), FUTEX_WAKE, 1 << 30);
    raw(SYS_waitid, P_PID, page->forkserver, 0, WEXITED);
    raw(SYS_prctl, PR_SET_NAME, address_of(plan->ended_name));
}

}  // namespace

memory_range hold_code() noexcept {
    return {reinterpret_cast<std::uintptr_t>(__start_cleanfork_hold),
            reinterpret_cast<std::uintptr_t>(__stop_cleanfork_hold)};
}

[[gnu::section("cleanfork_hold"), gnu::noinline]] void hold(hold_plan* plan) noexcept {
    pollfd* const fds = plan->fds;
    for (const memory_range& r : plan->unmapped)
        if (unmap(r.first, r.last) != 0) unmap_around_seals(r.first, r.last);
    unmap_above(plan->above);
    if (plan->page->stage == reaper_stage::ended)  // it was never begun
        raw(SYS_prctl, PR_SET_NAME, address_of(plan->ended_name));
    for (;;) {
        raw(SYS_ppoll, address_of(fds), hold_plan::k_watched, 0, 0, sizeof(std::uint64_t));
        if (fds[hold_plan::program].revents != 0 || fds[hold_plan::order].revents != 0) break;
        if (fds[hold_plan::forkserver].revents == 0) continue;
        reap(plan);
        fds[hold_plan::forkserver].fd = -1;
        fds[hold_plan::forkserver].revents = 0;
        // Nobody would tell it of the program's end.
        if (fds[hold_plan::program].fd < 0) break;
    }
    for (;;) raw(SYS_exit_group, 0);
}

}  // namespace cleanfork::detail
