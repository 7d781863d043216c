#include "ipc/base/process_stat.hpp"

#include <array>
#include <cerrno>
#include <charconv>
#include <string>

#include "ipc/base/proc.hpp"

namespace cleanfork::ipc {

namespace {

// Of the words that follow the name, counted from 0.
enum word { parent = 1, group = 2, session = 3, terminal = 4, threads = 17, started = 19, count };

}  // namespace

// "PID (NAME) STATE PARENT ...", where NAME may hold anything, a parenthesis too.
std::optional<process_stat> parse_stat(std::string_view text) noexcept {
    const std::size_t name_end = text.rfind(')');
    if (name_end == std::string_view::npos || name_end + 2 >= text.size()) return std::nullopt;
    const char* at = text.data() + name_end + 2;
    const char* const end = text.data() + text.size();
    process_stat p;
    p.state = *at++;
    std::array<long long, word::count> words{};
    for (std::size_t i = 1; i < words.size(); ++i) {
        if (at == end || *at != ' ') return std::nullopt;
        const auto [next, error] = std::from_chars(at + 1, end, words[i]);
        // Some are unsigned, and larger; none of those is wanted here.
        if (error != std::errc() && error != std::errc::result_out_of_range) return std::nullopt;
        at = next;
    }
    p.parent = static_cast<pid_t>(words[word::parent]);
    p.group = static_cast<pid_t>(words[word::group]);
    p.session = static_cast<pid_t>(words[word::session]);
    p.terminal = static_cast<int>(words[word::terminal]);
    p.threads = static_cast<int>(words[word::threads]);
    p.started = static_cast<std::uint64_t>(words[word::started]);
    return p;
}

std::optional<process_stat> stat_of(pid_t pid, int proc) {
    const std::string path = std::to_string(pid) + "/stat";
    const auto text = read_file(proc, proc == AT_FDCWD ? "/proc/" + path : path);
    if (!text) return std::nullopt;
    auto parsed = parse_stat(*text);
    if (!parsed) errno = EINVAL;
    return parsed;
}

}  // namespace cleanfork::ipc
