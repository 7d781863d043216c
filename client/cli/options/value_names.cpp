// The values that have names: signals and resource limits.
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <csignal>
#include <cstring>
#include <limits>

#include "client/cli/options/values.hpp"

namespace cleanfork::cli {

namespace {

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

std::string all_limits() {
    std::string names;
    for (const limit_name& l : k_limits) names += (names.empty() ? "" : ", ") + std::string(l.name);
    return names;
}

constexpr rlim_t k_least_size = 4096;

parsed<rlim_t> parse_amount(std::string_view text) {
    if (text == "unlimited" || text == "infinity") return RLIM_INFINITY;
    const bad_value bad{"\"" + std::string(text) +
                        "\" is not a limit: a number with an optional K, M, G or T, or unlimited"};
    unsigned long long number = 0;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, number);
    if (error != std::errc() || text.empty()) return bad;
    unsigned shift = 0;
    if (stop != end) {
        const auto at = std::string_view("KMGT").find(
            static_cast<char>(std::toupper(static_cast<unsigned char>(*stop))));
        if (stop + 1 != end || at == std::string_view::npos) return bad;
        shift = static_cast<unsigned>(at + 1) * 10;
    }
    // RLIM_INFINITY is all ones: a number that shifts up to it would change its meaning.
    if (number >= std::numeric_limits<rlim_t>::max() >> shift) return bad;
    return static_cast<rlim_t>(number) << shift;
}

}  // namespace

parsed<std::uint64_t> parse_size(std::string_view text) {
    const auto size = parse_amount(text);
    if (size && *size >= k_least_size && *size != RLIM_INFINITY) return std::uint64_t{*size};
    return bad_value{"\"" + std::string(text) +
                     "\" is not a size: a number from 4096, with an optional K, M, G or T"};
}

parsed<rlimit_option> parse_rlimit(std::string_view text) {
    const auto equals = text.find('=');
    if (equals == std::string_view::npos)
        return bad_value{"\"" + std::string(text) + "\" is not NAME=SOFT[:HARD]; the names are " +
                         all_limits()};
    std::string name(text.substr(0, equals));
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    const auto* const found = std::find_if(k_limits.begin(), k_limits.end(),
                                           [&](const limit_name& l) { return l.name == name; });
    if (found == k_limits.end())
        return bad_value{"\"" + name + "\" is no limit; the names are " + all_limits()};
    const std::string_view values = text.substr(equals + 1);
    const auto colon = values.find(':');
    const auto soft = parse_amount(values.substr(0, colon));
    if (!soft) return soft.error();
    const auto hard =
        colon == std::string_view::npos ? soft : parse_amount(values.substr(colon + 1));
    if (!hard) return hard.error();
    if (*soft > *hard) return bad_value{"the soft limit of " + name + " is above its hard limit"};
    return rlimit_option{found->resource, *soft, *hard};
}

parsed<int> parse_signal(std::string_view text, bool zero_too) {
    const bad_value bad{"\"" + std::string(text) +
                        "\" is no signal: a name like TERM, or a number from 1 to " +
                        std::to_string(SIGRTMAX)};
    if (const auto number = parse_integer(text, zero_too ? 0 : 1, SIGRTMAX))
        return static_cast<int>(*number);
    std::string name(text);
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    if (name.starts_with("SIG")) name.erase(0, 3);
    for (int number = 1; number < SIGRTMIN; ++number) {
        const char* known = ::sigabbrev_np(number);
        if (known != nullptr && name == known) return number;
    }
    // The names sigabbrev_np does not have, because they are second ones.
    if (name == "IOT") return SIGABRT;
    if (name == "CLD") return SIGCHLD;
    if (name == "POLL") return SIGPOLL;
    if (name == "RTMIN") return SIGRTMIN;
    if (name == "RTMAX") return SIGRTMAX;
    const std::string_view rest(name);
    if (rest.starts_with("RTMIN+"))
        if (const auto n = parse_integer(rest.substr(6), 0, SIGRTMAX - SIGRTMIN))
            return SIGRTMIN + static_cast<int>(*n);
    if (rest.starts_with("RTMAX-"))
        if (const auto n = parse_integer(rest.substr(6), 0, SIGRTMAX - SIGRTMIN))
            return SIGRTMAX - static_cast<int>(*n);
    return bad;
}

std::string signal_name(int number) {
    if (const char* name = ::sigabbrev_np(number)) return std::string("SIG") + name;
    if (number == SIGRTMIN) return "SIGRTMIN";
    if (number == SIGRTMAX) return "SIGRTMAX";
    if (number > SIGRTMIN && number < SIGRTMAX)
        return "SIGRTMIN+" + std::to_string(number - SIGRTMIN);
    return std::to_string(number);
}

}  // namespace cleanfork::cli
