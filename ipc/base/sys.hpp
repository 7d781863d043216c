// System calls of both sides that are about neither a descriptor, a process nor /proc.
// The others of the facade over the kernel: fd, process_ref, proc, features.
#pragma once

#include <cerrno>
#include <cleanfork/failure.hpp>
#include <cstdint>
#include <string>
#include <utility>

namespace cleanfork::ipc {

// `call` again while it returns -1 with EINTR.
template <class Call>
auto retry(Call&& call) noexcept(noexcept(call())) -> decltype(call()) {
    for (;;) {
        auto r = call();
        if (r != -1 || errno != EINTR) return r;
    }
}

// A failure of `s` with the given errno. Save errno on the line after the call.
inline failure fail(step s, int error_number, std::string object = {}, std::string detail = {}) {
    return failure{s, error_number, std::move(object), std::move(detail)};
}

// True when a probe's errno means that there is no such system call here: the kernel says
// ENOSYS, seccomp filters of container engines say that or EPERM.
inline bool is_missing(int error_number) noexcept {
    return error_number == ENOSYS || error_number == EPERM;
}

// CLOCK_MONOTONIC in nanoseconds.
std::uint64_t monotonic_ns() noexcept;

// Raises the soft RLIMIT_NOFILE to the hard one; returns the soft limit before.
std::uint64_t raise_descriptor_limit() noexcept;

}  // namespace cleanfork::ipc
