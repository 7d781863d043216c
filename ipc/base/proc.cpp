#include "ipc/base/proc.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cleanfork/unique_fd.hpp>
#include <csignal>
#include <mutex>
#include <sstream>

#include "ipc/base/sys.hpp"

namespace cleanfork::ipc {

std::optional<std::string> read_file(int dir, const std::string& path) {
    const unique_fd file(::openat(dir, path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file) return std::nullopt;
    constexpr std::size_t k_piece = 16'384;
    std::string text;
    for (;;) {
        const std::size_t done = text.size();
        text.resize(done + k_piece);
        const ssize_t n = retry([&] { return ::read(file.get(), &text[done], k_piece); });
        text.resize(done + static_cast<std::size_t>(n > 0 ? n : 0));
        if (n < 0) return std::nullopt;
        if (n == 0) return text;
    }
}

std::string read_line(int dir, const std::string& path) {
    std::string text = read_file(dir, path).value_or("");
    if (text.ends_with('\n')) text.pop_back();
    return text;
}

std::string read_link(int dir, const std::string& path) {
    std::string link(4096, '\0');
    const ssize_t size = ::readlinkat(dir, path.c_str(), link.data(), link.size());
    link.resize(static_cast<std::size_t>(size > 0 ? size : 0));
    return link;
}

std::string_view field(std::string_view text, std::string_view key) {
    for (std::size_t at = 0; at < text.size();) {
        const std::size_t end = std::min(text.find('\n', at), text.size());
        std::string_view line = text.substr(at, end - at);
        at = end + 1;
        if (!line.starts_with(key)) continue;
        line.remove_prefix(key.size());
        line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
        return line;
    }
    return {};
}

namespace {

// The number of `base` after `key` in what was read of /proc/self/status; one that goes on
// beyond it is not known.
std::optional<std::uint64_t> number_after(std::string_view key, std::string_view text, int base) {
    const std::size_t at = text.find(key);
    if (at == text.npos) return std::nullopt;
    const char* const end = text.data() + text.size();
    std::uint64_t number = 0;
    const auto [stop, error] = std::from_chars(text.data() + at + key.size(), end, number, base);
    return error == std::errc() && stop != end ? std::optional(number) : std::nullopt;
}

mode_t umask_without_proc() {
    // Two threads here at once would leave the mask of the first for that of the process.
    static std::mutex one_at_a_time;
    const std::lock_guard lock(one_at_a_time);
    const mode_t mask = ::umask(077);
    ::umask(mask);
    return mask;
}

// Some 1,500 bytes, of which both are in the first 1,000: nothing is allocated for it.
using status_text = std::array<char, 4096>;
std::string_view read_own_status(status_text& buffer) {
    const unique_fd status(::open("/proc/self/status", O_RDONLY | O_CLOEXEC));
    const ssize_t n =
        status ? retry([&] { return ::read(status.get(), buffer.data(), buffer.size()); }) : 0;
    return {buffer.data(), static_cast<std::size_t>(n > 0 ? n : 0)};
}

mode_t umask_in(std::string_view status) {
    const auto mask = number_after("\nUmask:\t", status, 8);
    return mask && *mask <= 0777 ? static_cast<mode_t>(*mask) : umask_without_proc();
}

}  // namespace

mode_t own_umask() {
    status_text buffer;
    return umask_in(read_own_status(buffer));
}

std::vector<int> own_ignored_signals() {
    // The raw call: sigaction(3) does not tell of the two that libc keeps to itself, which a
    // posix_spawn(3) leaves ignored. A child of fork and exec has that too.
    struct kernel_action {
        void* handler;
        std::uint64_t rest[3];  // room for each machine's order
    };
    constexpr std::size_t k_set_size = 8;
    std::vector<int> all;
    for (int s = 1; s <= SIGRTMAX; ++s) {
        kernel_action now{};
        if (::syscall(SYS_rt_sigaction, s, nullptr, &now, k_set_size) == 0 &&
            now.handler == reinterpret_cast<void*>(SIG_IGN))
            all.push_back(s);
    }
    return all;
}

inherited_state own_inherited_state() {
    status_text buffer;
    const std::string_view status = read_own_status(buffer);
    inherited_state state{.umask = umask_in(status), .ignored_signals = {}};
    const auto ignored = number_after("\nSigIgn:\t", status, 16);
    if (!ignored) {
        state.ignored_signals = own_ignored_signals();
        return state;
    }
    for (int s = 1; s <= SIGRTMAX; ++s)
        if ((*ignored >> (s - 1) & 1) != 0) state.ignored_signals.push_back(s);
    return state;
}

std::uint64_t resident_kib() {
    std::istringstream pages(read_file(AT_FDCWD, "/proc/self/statm").value_or(""));
    std::uint64_t total = 0;
    std::uint64_t resident = 0;
    pages >> total >> resident;
    return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)) / 1024;
}

// Lines like "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw", see proc(5).
std::vector<std::string> cgroup_mounts() {
    std::vector<std::string> points;
    std::istringstream mounts(read_file(AT_FDCWD, "/proc/self/mountinfo").value_or(""));
    for (std::string line; std::getline(mounts, line);) {
        if (line.find(" - cgroup2 ") == std::string::npos) continue;
        std::istringstream fields(line);
        std::string skipped, point;
        fields >> skipped >> skipped >> skipped >> skipped >> point;
        points.push_back(std::move(point));
    }
    return points;
}

}  // namespace cleanfork::ipc
