// What people type as option values, turned into what the client library takes.
//
// Pure functions: no system state but the names and numbers of this machine's
// signals and limits. What cannot be parsed comes back as a sentence that says
// what was expected, without the name of the option.
#pragma once

#include <sys/types.h>

#include <boost/system/result.hpp>
#include <chrono>
#include <cleanfork/spawn_options.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace cleanfork::cli {

inline constexpr int k_most_descriptor = 1'048'576;  // fs.nr_open's default

struct bad_value {
    std::string why;
};

// Found by boost::system::result::value(): throws std::invalid_argument.
[[noreturn]] void throw_exception_from_error(const bad_value& bad, const boost::source_location&);

template <class T>
using parsed = boost::system::result<T, bad_value>;

// Any text.
parsed<std::string> as_is(const std::string& text);

// A decimal integer within [least, most], nothing before or after it.
parsed<long long> parse_integer(std::string_view text, long long least, long long most);

// The same as a function, for an option.
inline auto integer(long long least, long long most) {
    return [least, most](const std::string& text) -> parsed<int> {
        const auto number = parse_integer(text, least, most);
        if (!number) return number.error();
        return static_cast<int>(*number);
    };
}

// "5", "5s", "0.5s", "500ms", "20us", "100ns", "2m", "1h", "1d"; a bare number is seconds.
parsed<std::chrono::nanoseconds> parse_duration(std::string_view text);

// "TERM", "SIGTERM", "15", "RTMIN+3"; 0 only when `zero_too`.
parsed<int> parse_signal(std::string_view text, bool zero_too = false);
// "SIGTERM", "SIGRTMIN+3", or the number.
std::string signal_name(int number);

// Bytes, like 10M.
parsed<std::uint64_t> parse_size(std::string_view text);
// "nofile=1024", "core=unlimited", "as=2G:4G". A single value sets both limits,
// as prlimit(1) does. K, M, G and T are powers of 1024.
parsed<rlimit_option> parse_rlimit(std::string_view text);

// "0,2-3", each number once, in order.
parsed<std::vector<unsigned>> parse_cpus(std::string_view text);

// "other", "batch", "idle", "fifo:10", "rr:1"
parsed<scheduling> parse_scheduling(std::string_view text);

// "caller" or "forkserver".
parsed<cleanfork::identity> parse_identity(std::string_view text);

// "+net_raw,-chown", "-all,+kill": `now` with what is named added and removed, as setpriv(1)
// has it. Bit n: capability n.
parsed<std::uint64_t> parse_capabilities(std::string_view text, std::uint64_t now);

// "keep", "TERM", "TERM:5", "INT:500ms". Without a grace: the library's.
parsed<lifetime> parse_lifetime(std::string_view text);
// no, on-failure or always
parsed<restart_options::policy> parse_restart_policy(std::string_view text);

// "FD" or "FD:TARGET"
parsed<fd_mapping> parse_fd_mapping(std::string_view text);

// A descriptor by number, or a file to open, under a name.
struct named_source {
    std::string name;
    std::variant<int, std::string> from;
};

// "NAME=FD", "NAME=PATH", or as parse_fd_mapping().
parsed<std::variant<fd_mapping, named_source>> parse_fd_argument(std::string_view text);

// "NAME=FD"
parsed<listen_fd> parse_listen_fd(std::string_view text);

// Octal, up to 0777.
parsed<mode_t> parse_umask(std::string_view text);

// "NAME=VALUE"; NAME is not empty.
parsed<std::pair<std::string, std::string>> parse_assignment(std::string_view text);

// For people: "1.5 s", "20 ms", "3 us"; and ages: "2d 3h", "4m 5s".
std::string show_duration(std::chrono::nanoseconds time);
std::string show_age(std::chrono::nanoseconds time);

}  // namespace cleanfork::cli
