#include "client/python/src/caller.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cleanfork/unique_fd.hpp>
#include <csignal>
#include <cstring>
#include <string_view>
#include <type_traits>

namespace cleanfork::python {

caller_state::caller_state() {
    for (int i = 0; i < RLIMIT_NLIMITS; ++i)
        ::getrlimit(static_cast<__rlimit_resource_t>(i), &limits_[static_cast<std::size_t>(i)]);
    nice_ = ::getpriority(PRIO_PROCESS, 0);
    ::sched_getaffinity(0, sizeof processors_, &processors_);
}

std::string caller_state::packed() const {
    static_assert(std::is_trivially_copyable_v<caller_state>);
    std::string bytes(sizeof *this, '\0');
    std::memcpy(bytes.data(), this, sizeof *this);
    return bytes;
}

std::optional<caller_state> caller_state::unpacked(std::string_view bytes) {
    if (bytes.size() != sizeof(caller_state)) return std::nullopt;
    caller_state state;
    std::memcpy(&state, bytes.data(), sizeof state);
    return state;
}

void caller_state::add_changes(const caller_state& launched, spawn_options& o) const {
    for (std::size_t i = 0; i < limits_.size(); ++i) {
        const rlimit &now = limits_[i], &then = launched.limits_[i];
        if (now.rlim_cur != then.rlim_cur || now.rlim_max != then.rlim_max)
            o.rlimits.push_back({static_cast<int>(i), now.rlim_cur, now.rlim_max});
    }
    if (nice_ != launched.nice_) o.nice = nice_;
    if (CPU_EQUAL(&processors_, &launched.processors_)) return;
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu)
        if (CPU_ISSET(cpu, &processors_)) o.cpus.push_back(cpu);
}

base_state::base_state() {
    for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry)
        environment_.append(*entry).push_back('\0');
    struct stat here {};
    if (::stat(".", &here) != 0) return;
    device_ = here.st_dev;
    inode_ = here.st_ino;
}

namespace {

// The number of `base` after `field` in the text of /proc/self/status.
std::optional<std::uint64_t> number_after(std::string_view field, std::string_view text, int base) {
    const std::size_t at = text.find(field);
    if (at == text.npos) return std::nullopt;
    std::uint64_t number = 0;
    const char* const begin = text.data() + at + field.size();
    const char* const end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(begin, end, number, base);
    // One that goes on beyond what was read is not known.
    return error == std::errc() && stop != end ? std::optional(number) : std::nullopt;
}

// umask(2) cannot tell without a change that other threads may see: nothing is created too open.
mode_t umask_without_proc() {
    const mode_t mask = ::umask(0777);
    ::umask(mask);
    return mask;
}

}  // namespace

std::vector<int> ignored_signals() {
    std::vector<int> all;
    for (int s = 1; s <= SIGRTMAX; ++s) {
        struct sigaction now {};
        if (::sigaction(s, nullptr, &now) == 0 && now.sa_handler == SIG_IGN) all.push_back(s);
    }
    return all;
}

inherited_state current_inherited() {
    inherited_state state;
    const unique_fd status(::open("/proc/self/status", O_RDONLY | O_CLOEXEC));
    char text[4096];
    const ssize_t n = status ? ::read(status.get(), text, sizeof text) : 0;
    const std::string_view all(text, static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
    const auto mask = number_after("\nUmask:\t", all, 8);
    state.umask = mask ? static_cast<mode_t>(*mask) : umask_without_proc();
    const auto ignored = number_after("\nSigIgn:\t", all, 16);
    if (!ignored) {
        state.ignored_signals = ignored_signals();
        return state;
    }
    for (int s = 1; s <= SIGRTMAX; ++s)
        if ((*ignored >> (s - 1) & 1) != 0) state.ignored_signals.push_back(s);
    return state;
}

}  // namespace cleanfork::python
