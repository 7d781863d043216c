#include "client/python/src/caller.hpp"

#include <sys/stat.h>
#include <unistd.h>

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

}  // namespace cleanfork::python
