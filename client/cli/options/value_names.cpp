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
#include "ipc/base/typed_values.hpp"

namespace cleanfork::cli {

namespace {

constexpr rlim_t k_least_size = 4096;

parsed<rlim_t> parse_amount(std::string_view text) {
    const auto amount = ipc::amount_of(text);
    if (amount) return *amount;
    return bad_value{"\"" + std::string(text) +
                     "\" is not a limit: a number with an optional K, M, G or T, or unlimited"};
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
                         ipc::limit_names()};
    std::string name(text.substr(0, equals));
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    const auto resource = ipc::limit_of(name);
    if (!resource)
        return bad_value{"\"" + name + "\" is no limit; the names are " + ipc::limit_names()};
    const std::string_view values = text.substr(equals + 1);
    const auto colon = values.find(':');
    const auto soft = parse_amount(values.substr(0, colon));
    if (!soft) return soft.error();
    const auto hard =
        colon == std::string_view::npos ? soft : parse_amount(values.substr(colon + 1));
    if (!hard) return hard.error();
    if (*soft > *hard) return bad_value{"the soft limit of " + name + " is above its hard limit"};
    return rlimit_option{*resource, *soft, *hard};
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
