#include "client/python/src/caller.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

#include "ipc/base/proc.hpp"

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

struct relations {
    pid_t parent = 0;
    pid_t group = 0;
    pid_t session = 0;
    int terminal = 0;
};

// proc_pid_stat(5): what follows the name, which may hold anything.
std::optional<relations> relations_of(pid_t pid) {
    const auto stat = ipc::read_file(AT_FDCWD, "/proc/" + std::to_string(pid) + "/stat");
    if (!stat) return std::nullopt;
    relations r;
    const std::size_t at = stat->rfind(')');
    char state = 0;
    if (at == stat->npos || std::sscanf(stat->c_str() + at + 1, " %c %d %d %d %d", &state,
                                        &r.parent, &r.group, &r.session, &r.terminal) != 5)
        return std::nullopt;
    return r;
}

bool is_a_job(pid_t group) {
    constexpr int k_most_ancestors = 64;
    const auto own = relations_of(::getpid());
    if (!own) return false;
    if (own->terminal != 0) return true;
    std::optional<relations> r = own;
    for (int i = 0; r && i < k_most_ancestors; ++i) {
        if (r->group != group) return r->session == own->session;
        if (r->parent == 0) return false;  // outside of this PID namespace
        r = relations_of(r->parent);
    }
    return false;
}

}  // namespace

bool group_is_a_job() {
    struct known {
        pid_t pid, parent, group;
        bool job;
    };
    // With the GIL. A program that moves to another group, or to another parent, is looked at anew.
    static known last{};
    const pid_t pid = ::getpid(), parent = ::getppid(), group = ::getpgrp();
    if (last.pid != pid || last.parent != parent || last.group != group)
        last = {pid, parent, group, is_a_job(group)};
    return last.job;
}

}  // namespace cleanfork::python
