#include "client/cli/foreground/job.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cleanfork/unique_fd.hpp>
#include <csignal>
#include <map>
#include <optional>
#include <string>

#include "ipc/base/proc.hpp"
#include "ipc/base/process_stat.hpp"

namespace cleanfork::cli {

namespace {

std::map<pid_t, ipc::process_stat> all_processes() {
    std::map<pid_t, ipc::process_stat> all;
    const unique_fd proc(::open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!proc) return all;
    ipc::each_number(proc.get(), [&](const char*, int pid) {
        if (const auto p = ipc::stat_of(pid, proc.get())) all.emplace(pid, *p);
    });
    return all;
}

}  // namespace

bool has_terminal() noexcept {
    const unique_fd tty(::open("/dev/tty", O_RDONLY | O_NOCTTY | O_CLOEXEC));
    return tty && ::getpgrp() > 0;
}

bool job_is_orphaned() {
    const pid_t session = ::getsid(0), group = ::getpgrp();
    pid_t parent = ::getppid();
    // A script and what it runs are one job: its own parent counts.
    while (parent > 0 && ::getpgid(parent) == group) {
        const auto above = ipc::stat_of(parent);
        if (!above) return false;
        parent = above->parent;
    }
    return parent <= 0 || ::getsid(parent) != session;
}

std::vector<int> ignored_job_signals() {
    std::vector<int> ignored;
    for (const int number : {SIGHUP, SIGINT, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU}) {
        struct sigaction now {};
        if (::sigaction(number, nullptr, &now) == 0 && now.sa_handler == SIG_IGN)
            ignored.push_back(number);
    }
    return ignored;
}

// What the shell started besides us is beneath our parent; what has lost its parent is beneath
// init, and taken for the child's.
std::vector<pid_t> members_of_child(pid_t child, pid_t server) {
    const std::map<pid_t, ipc::process_stat> all = all_processes();
    const pid_t self = ::getpid(), ours = ::getppid(), group = ::getpgrp();
    const auto is_ours = [&](pid_t pid) {
        for (int steps = 0; pid > 1 && steps < 4096; ++steps) {
            if (pid == child) return true;
            // Beneath the forkserver, but not the child: of another command in the job.
            if (pid == server || pid == ours || pid == self) return false;
            const auto at = all.find(pid);
            if (at == all.end()) break;
            pid = at->second.parent;
        }
        return true;
    };
    std::vector<pid_t> members;
    for (const auto& [pid, k] : all)
        if (k.group == group && pid != child && pid != self && is_ours(pid)) members.push_back(pid);
    members.push_back(child);
    return members;
}

}  // namespace cleanfork::cli
