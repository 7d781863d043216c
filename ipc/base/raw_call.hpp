// System calls that leave errno alone: for a process that shares the memory of another, and so its
// errno, while that goes on.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <type_traits>

namespace cleanfork::ipc {

namespace detail {

#if defined(__x86_64__) && defined(__LP64__)
#define CLEANFORK_HAS_RAW_CALL 1
[[gnu::always_inline]] inline long raw(long number, long a, long b, long c, long d,
                                       long e) noexcept {
    long result;
    register long r10 asm("r10") = d;
    register long r8 asm("r8") = e;
    asm volatile("syscall"
                 : "=a"(result)
                 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                 : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
#define CLEANFORK_HAS_RAW_CALL 1
[[gnu::always_inline]] inline long raw(long number, long a, long b, long c, long d,
                                       long e) noexcept {
    register long x8 asm("x8") = number;
    register long x0 asm("x0") = a;
    register long x1 asm("x1") = b;
    register long x2 asm("x2") = c;
    register long x3 asm("x3") = d;
    register long x4 asm("x4") = e;
    asm volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
    return x0;
}
#elif defined(__riscv) && __riscv_xlen == 64
#define CLEANFORK_HAS_RAW_CALL 1
[[gnu::always_inline]] inline long raw(long number, long a, long b, long c, long d,
                                       long e) noexcept {
    register long a7 asm("a7") = number;
    register long a0 asm("a0") = a;
    register long a1 asm("a1") = b;
    register long a2 asm("a2") = c;
    register long a3 asm("a3") = d;
    register long a4 asm("a4") = e;
    asm volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4) : "memory");
    return a0;
}
#else
#define CLEANFORK_HAS_RAW_CALL 0
[[gnu::always_inline]] inline long raw(long number, long a, long b, long c, long d,
                                       long e) noexcept {
    const long result = ::syscall(number, a, b, c, d, e);
    return result < 0 ? -errno : result;
}
#endif

template <class T>
long as_word(T value) noexcept {
    if constexpr (std::is_pointer_v<T>)
        return reinterpret_cast<long>(value);
    else if constexpr (std::is_null_pointer_v<T>)
        return 0;
    else
        return static_cast<long>(value);
}

}  // namespace detail

// False where there is no way but through libc, which sets errno.
inline constexpr bool k_has_raw_call = CLEANFORK_HAS_RAW_CALL != 0;

// What the kernel gives: -errno on failure. Up to five words.
template <class... Words>
long raw_call(long number, Words... words) noexcept {
    static_assert(sizeof...(words) <= 5);
    long all[5] = {detail::as_word(words)...};
    return detail::raw(number, all[0], all[1], all[2], all[3], all[4]);
}

// errno of a raw call that gave `result`, 0 when it worked.
inline int error_of(long result) noexcept { return result < 0 ? static_cast<int>(-result) : 0; }

}  // namespace cleanfork::ipc
