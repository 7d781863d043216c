// What people type for durations, amounts and limits, on command lines and in files.
#pragma once

#include <sys/resource.h>

#include <boost/system/result.hpp>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace cleanfork::ipc {

// What was expected instead: "a duration: ...".
struct not_this {
    std::string_view expected;
};
[[noreturn]] void throw_exception_from_error(const not_this& n, const boost::source_location&);

// "5", "5s", "0.5s", "500ms", "20us", "100ns", "2m", "1h", "1d"; a bare number is seconds.
boost::system::result<std::chrono::nanoseconds, not_this> duration_of(std::string_view text);

// "4096", "10M", "unlimited"; K, M, G and T are powers of 1024.
std::optional<rlim_t> amount_of(std::string_view text);

// RLIMIT_* of "nofile" and the like; none: there is no such limit.
std::optional<int> limit_of(std::string_view name);
// All names, "nofile, nproc, ...".
std::string limit_names();

// Octal, up to 0777.
std::optional<mode_t> umask_of(std::string_view text);

// The variable of glibc's tunables, with its heap in huge pages beside what it says otherwise.
inline constexpr std::string_view k_tunables = "GLIBC_TUNABLES";
std::string with_huge_pages(std::string_view tunables);

}  // namespace cleanfork::ipc
