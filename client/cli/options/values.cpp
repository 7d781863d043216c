#include "client/cli/options/values.hpp"

#include <sched.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <set>
#include <stdexcept>

#include "ipc/base/typed_values.hpp"

namespace cleanfork::cli {

namespace {

bad_value bad(std::string_view text, std::string_view expected) {
    return {"\"" + std::string(text) + "\" is not " + std::string(expected)};
}

// The parts before and after the first `separator`; `found` is false without one.
struct halves {
    std::string_view first, second;
    bool found;
};

halves split(std::string_view text, char separator) {
    const auto at = text.find(separator);
    if (at == std::string_view::npos) return {text, {}, false};
    return {text.substr(0, at), text.substr(at + 1), true};
}

}  // namespace

void throw_exception_from_error(const bad_value& b, const boost::source_location&) {
    throw std::invalid_argument(b.why);
}

parsed<std::string> as_is(const std::string& text) { return {boost::system::in_place_value, text}; }

parsed<long long> parse_integer(std::string_view text, long long least, long long most) {
    long long number = 0;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, number);
    if (error != std::errc() || stop != end || text.empty() || number < least || number > most)
        return bad(text, "a number from " + std::to_string(least) + " to " + std::to_string(most));
    return number;
}

parsed<std::chrono::nanoseconds> parse_duration(std::string_view text) {
    const auto time = ipc::duration_of(text);
    if (!time) return bad(text, time.error().expected);
    return *time;
}

parsed<std::vector<unsigned>> parse_cpus(std::string_view text) {
    constexpr std::string_view expected = "a list of processors, like 0,2-3";
    constexpr long long most = 8191;  // what distributions configure their kernels for
    std::set<unsigned> cpus;
    for (std::string_view rest = text;;) {
        const halves item = split(rest, ',');
        const halves range = split(item.first, '-');
        const auto first = parse_integer(range.first, 0, most);
        const auto last = range.found ? parse_integer(range.second, 0, most) : first;
        if (!first || !last || *first > *last) return bad(text, expected);
        for (long long cpu = *first; cpu <= *last; ++cpu) cpus.insert(static_cast<unsigned>(cpu));
        if (!item.found) break;
        rest = item.second;
    }
    return std::vector<unsigned>(cpus.begin(), cpus.end());
}

parsed<scheduling> parse_scheduling(std::string_view text) {
    struct policy {
        std::string_view name;
        int number;
        bool realtime;
    };
    constexpr std::array<policy, 5> k_policies{{{"other", SCHED_OTHER, false},
                                                {"batch", SCHED_BATCH, false},
                                                {"idle", SCHED_IDLE, false},
                                                {"fifo", SCHED_FIFO, true},
                                                {"rr", SCHED_RR, true}}};
    const halves parts = split(text, ':');
    const auto* const found = std::find_if(k_policies.begin(), k_policies.end(),
                                           [&](const policy& p) { return p.name == parts.first; });
    if (found == k_policies.end())
        return bad(text, "a scheduling policy: other, batch, idle, fifo:PRIO or rr:PRIO");
    if (!found->realtime) {
        if (parts.found && parts.second != "0")
            return bad_value{"policy " + std::string(found->name) + " has no priority: use --nice"};
        return scheduling{found->number, 0};
    }
    const auto priority = parse_integer(parts.second, 1, 99);
    if (!priority)
        return bad_value{"policy " + std::string(found->name) +
                         " needs a priority from 1 to 99: " + std::string(found->name) + ":10"};
    return scheduling{found->number, static_cast<int>(*priority)};
}

parsed<lifetime> parse_lifetime(std::string_view text) {
    if (text == "keep") return lifetime::kept();
    const halves parts = split(text, ':');
    const auto number = parse_signal(parts.first);
    if (!number)
        return bad(text, "a lifetime: keep, or a signal with an optional grace, like TERM:5s");
    lifetime l{.signal = *number};
    if (parts.found) {
        const auto grace = parse_duration(parts.second);
        if (!grace) return grace.error();
        if (*grace > std::chrono::hours(24))
            return bad(parts.second, "a grace: it is at most one day");
        l.grace = std::chrono::ceil<std::chrono::milliseconds>(*grace);
    }
    return l;
}

parsed<restart_options::policy> parse_restart_policy(std::string_view text) {
    using policy = restart_options::policy;
    if (text == "no") return policy::no;
    if (text == "on-failure") return policy::on_failure;
    if (text == "always") return policy::always;
    return bad(text, "a restart policy: no, on-failure or always");
}

parsed<fd_mapping> parse_fd_mapping(std::string_view text) {
    const halves parts = split(text, ':');
    const auto source = parse_integer(parts.first, 0, k_most_descriptor);
    const auto target = parts.found ? parse_integer(parts.second, 0, k_most_descriptor) : source;
    if (!source || !target) return bad(text, "FD or FD:TARGET, like 5 or 5:3");
    return fd_mapping{static_cast<int>(*source), static_cast<int>(*target)};
}

parsed<std::variant<fd_mapping, named_source>> parse_fd_argument(std::string_view text) {
    using either = std::variant<fd_mapping, named_source>;
    const halves parts = split(text, '=');
    if (!parts.found) {
        const auto mapping = parse_fd_mapping(text);
        if (!mapping) return bad(text, "NAME=FD, NAME=PATH, FD or FD:TARGET");
        return either(*mapping);
    }
    if (parts.first.empty() || parts.second.empty())
        return bad(text, "NAME=FD or NAME=PATH, like input=5 or input=./file");
    named_source named{std::string(parts.first), std::string(parts.second)};
    if (parts.second.find_first_not_of("0123456789") == std::string_view::npos) {
        const auto number = parse_integer(parts.second, 0, k_most_descriptor);
        if (!number) return number.error();
        named.from = static_cast<int>(*number);
    }
    return either(std::move(named));
}

parsed<listen_fd> parse_listen_fd(std::string_view text) {
    const auto at = text.rfind('=');
    if (at == std::string_view::npos || at == 0) return bad(text, "NAME=FD, like http=5");
    const auto source = parse_integer(text.substr(at + 1), 0, k_most_descriptor);
    if (!source) return bad(text, "NAME=FD, like http=5");
    return listen_fd{static_cast<int>(*source), std::string(text.substr(0, at))};
}

parsed<mode_t> parse_umask(std::string_view text) {
    const auto mask = ipc::umask_of(text);
    if (!mask) return bad(text, "an octal mask from 0 to 777");
    return *mask;
}

parsed<std::pair<std::string, std::string>> parse_assignment(std::string_view text) {
    const halves parts = split(text, '=');
    if (!parts.found || parts.first.empty()) return bad(text, "NAME=VALUE");
    return std::pair(std::string(parts.first), std::string(parts.second));
}

std::string show_duration(std::chrono::nanoseconds time) {
    std::array<char, 32> text{};
    const double ns = static_cast<double>(time.count());
    if (ns >= 1e9)
        std::snprintf(text.data(), text.size(), "%.3g s", ns / 1e9);
    else if (ns >= 1e6)
        std::snprintf(text.data(), text.size(), "%.3g ms", ns / 1e6);
    else
        std::snprintf(text.data(), text.size(), "%.3g us", ns / 1e3);
    // %g turns 1000 and more into 1e+03.
    if (std::string_view(text.data()).find('e') != std::string_view::npos)
        std::snprintf(text.data(), text.size(), "%.0f %s", ns >= 1e9 ? ns / 1e9 : ns / 1e6,
                      ns >= 1e9 ? "s" : "ms");
    return text.data();
}

std::string show_age(std::chrono::nanoseconds time) {
    const auto s = std::chrono::duration_cast<std::chrono::seconds>(time).count();
    const auto pair = [](auto big, const char* b, auto small, const char* l) {
        return std::to_string(big) + b + " " + std::to_string(small) + l;
    };
    if (s < 60) return std::to_string(s) + "s";
    if (s < 3600) return pair(s / 60, "m", s % 60, "s");
    if (s < 86400) return pair(s / 3600, "h", s % 3600 / 60, "m");
    return pair(s / 86400, "d", s % 86400 / 3600, "h");
}

}  // namespace cleanfork::cli
