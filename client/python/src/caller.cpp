#include "client/python/src/caller.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <optional>
#include <string>

#include "client/python/src/variables.hpp"
#include "ipc/base/proc.hpp"
#include "ipc/base/process_stat.hpp"

namespace cleanfork::python {

base_state::base_state() {
    for (const std::string& entry : variables_now()) environment_.append(entry).push_back('\0');
    struct stat here {};
    if (::stat(".", &here) != 0) return;
    device_ = here.st_dev;
    inode_ = here.st_ino;
}

namespace {

bool is_a_job(pid_t group) {
    constexpr int k_most_ancestors = 64;
    const auto own = ipc::stat_of(::getpid());
    if (!own) return false;
    if (own->terminal != 0) return true;
    std::optional<ipc::process_stat> r = own;
    for (int i = 0; r && i < k_most_ancestors; ++i) {
        if (r->group != group) return r->session == own->session;
        if (r->parent == 0) return false;  // outside of this PID namespace
        r = ipc::stat_of(r->parent);
    }
    return false;
}

}  // namespace

bool group_is_a_job() {
    struct known {
        pid_t pid, parent, group;
        bool job;
    };
    // A program that moves to another group, or to another parent, is looked at anew. Each thread
    // looks for itself: a lock might be held by another one when the program forks.
    thread_local known last{};
    const pid_t pid = ::getpid(), parent = ::getppid(), group = ::getpgrp();
    if (last.pid != pid || last.parent != parent || last.group != group)
        last = {pid, parent, group, is_a_job(group)};
    return last.job;
}

void take_inherited(spawn_options& o) {
    ipc::inherited_state now = ipc::own_inherited_state();
    o.umask = now.umask;
    o.ignored_signals = std::move(now.ignored_signals);
    std::erase_if(o.ignored_signals, [](int s) { return s == SIGPIPE || s == SIGXFSZ; });
}

void make_like_caller(spawn_options& o, pid_t forkserver) {
    take_inherited(o);
    // A process can join a group of its own session only, and one that has a number here: that
    // of a program in a new PID namespace may be outside.
    const pid_t group = ::getpgrp();
    if (group > 0 && ::getsid(forkserver) == ::getsid(0) && group_is_a_job())
        o.group = {.how = process_group::kind::join, .id = group};
}

}  // namespace cleanfork::python
