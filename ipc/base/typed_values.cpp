#include "ipc/base/typed_values.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace cleanfork::ipc {

namespace {

struct time_unit {
    std::string_view name;
    long double nanoseconds;
};

constexpr std::array<time_unit, 8> k_time_units{{{"", 1e9L},
                                                 {"s", 1e9L},
                                                 {"ms", 1e6L},
                                                 {"us", 1e3L},
                                                 {"ns", 1},
                                                 {"m", 60e9L},
                                                 {"h", 3600e9L},
                                                 {"d", 86400e9L}}};

struct limit_name {
    std::string_view name;
    int resource;
};

constexpr std::array<limit_name, 16> k_limits{{
    {"nofile", RLIMIT_NOFILE},
    {"nproc", RLIMIT_NPROC},
    {"core", RLIMIT_CORE},
    {"cpu", RLIMIT_CPU},
    {"as", RLIMIT_AS},
    {"data", RLIMIT_DATA},
    {"stack", RLIMIT_STACK},
    {"fsize", RLIMIT_FSIZE},
    {"memlock", RLIMIT_MEMLOCK},
    {"rss", RLIMIT_RSS},
    {"locks", RLIMIT_LOCKS},
    {"sigpending", RLIMIT_SIGPENDING},
    {"msgqueue", RLIMIT_MSGQUEUE},
    {"nice", RLIMIT_NICE},
    {"rtprio", RLIMIT_RTPRIO},
    {"rttime", RLIMIT_RTTIME},
}};

constexpr std::string_view k_huge_pages = "glibc.malloc.hugetlb=";

}  // namespace

void throw_exception_from_error(const not_this& n, const boost::source_location&) {
    throw std::invalid_argument("not " + std::string(n.expected));
}

boost::system::result<std::chrono::nanoseconds, not_this> duration_of(std::string_view text) {
    constexpr not_this none{"a duration: a number with an optional unit (ns, us, ms, s, m, h, d)"};
    // from_chars would also take "inf", "nan" and a sign.
    if (text.empty() || text.find_first_not_of("0123456789.") == 0) return none;
    double number = 0;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, number, std::chars_format::fixed);
    if (error != std::errc()) return none;
    const std::string_view name(stop, static_cast<std::size_t>(end - stop));
    const auto* const found = std::find_if(k_time_units.begin(), k_time_units.end(),
                                           [&](const time_unit& u) { return u.name == name; });
    if (found == k_time_units.end()) return none;
    const long double total = std::round(static_cast<long double>(number) * found->nanoseconds);
    // Half of what fits, so that adding it to a clock cannot overflow.
    if (total > static_cast<long double>(std::numeric_limits<std::int64_t>::max() / 2))
        return not_this{"a duration this program can wait for: it is too long"};
    return std::chrono::nanoseconds(static_cast<std::int64_t>(total));
}

std::optional<rlim_t> amount_of(std::string_view text) {
    if (text == "unlimited" || text == "infinity") return RLIM_INFINITY;
    unsigned long long number = 0;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, number);
    if (error != std::errc() || text.empty()) return {};
    unsigned shift = 0;
    if (stop != end) {
        const auto at = std::string_view("KMGT").find(
            static_cast<char>(std::toupper(static_cast<unsigned char>(*stop))));
        if (stop + 1 != end || at == std::string_view::npos) return {};
        shift = static_cast<unsigned>(at + 1) * 10;
    }
    // RLIM_INFINITY is all ones: a number that shifts up to it would change its meaning.
    if (number >= std::numeric_limits<rlim_t>::max() >> shift) return {};
    return static_cast<rlim_t>(number) << shift;
}

std::optional<int> limit_of(std::string_view name) {
    const auto* const found = std::find_if(k_limits.begin(), k_limits.end(),
                                           [&](const limit_name& l) { return l.name == name; });
    if (found == k_limits.end()) return {};
    return found->resource;
}

std::string limit_names() {
    std::string names;
    for (const limit_name& l : k_limits) names += (names.empty() ? "" : ", ") + std::string(l.name);
    return names;
}

std::optional<mode_t> umask_of(std::string_view text) {
    unsigned mode = 0;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, mode, 8);
    if (error != std::errc() || stop != end || text.empty() || mode > 0777) return {};
    return static_cast<mode_t>(mode);
}

std::string with_huge_pages(std::string_view tunables) {
    // Colons separate them; one of the same name gives way.
    std::string merged;
    for (std::string_view rest = tunables; !rest.empty();) {
        const std::size_t end = std::min(rest.find(':'), rest.size());
        const std::string_view tunable = rest.substr(0, end);
        rest.remove_prefix(std::min(end + 1, rest.size()));
        if (tunable.empty() || tunable.starts_with(k_huge_pages)) continue;
        merged.append(tunable).append(":");
    }
    return merged.append(k_huge_pages).append("1");
}

}  // namespace cleanfork::ipc
