#include "client/python/src/caller.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <optional>
#include <string>

#include "ipc/base/process_stat.hpp"

namespace cleanfork::python {

base_state::base_state() {
    for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry)
        environment_.append(*entry).push_back('\0');
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
    // With the GIL. A program that moves to another group, or to another parent, is looked at anew.
    static known last{};
    const pid_t pid = ::getpid(), parent = ::getppid(), group = ::getpgrp();
    if (last.pid != pid || last.parent != parent || last.group != group)
        last = {pid, parent, group, is_a_job(group)};
    return last.job;
}

}  // namespace cleanfork::python
