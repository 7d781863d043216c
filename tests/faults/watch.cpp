#include "tests/faults/watch.hpp"

#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <csignal>

#include "ipc/base/proc.hpp"
#include "ipc/base/process_stat.hpp"
#include "tests/faults/calls.hpp"

namespace cleanfork::faults {

namespace {

constexpr std::array<std::string_view, 9> k_roles{"daemon",         "child",   "template",
                                                  "template-child", "client",  "launcher",
                                                  "log-writer",     "command", "program"};

bool is_exec(int call) { return call == SYS_execve || call == SYS_execveat; }

bool is_epoll_wait(int call) {
#ifdef SYS_epoll_wait
    if (call == SYS_epoll_wait) return true;
#endif
    return call == SYS_epoll_pwait || call == SYS_epoll_pwait2;
}

std::string text_at(pid_t pid, std::uint64_t address) {
    char text[120] = {};
    iovec here{text, sizeof text - 1};
    const iovec there{reinterpret_cast<void*>(address), sizeof text - 1};
    if (::process_vm_readv(pid, &here, 1, &there, 1, 0) <= 0) return {};
    return text;
}

}  // namespace

std::string_view to_string(role r) { return k_roles.at(static_cast<std::size_t>(r)); }

std::optional<role> role_of_name(std::string_view name) {
    for (std::size_t i = 0; i < k_roles.size(); ++i)
        if (k_roles[i] == name) return static_cast<role>(i);
    return std::nullopt;
}

std::string to_string(const fault& f) {
    return std::string(to_string(f.at.who)) + " " + name_of_call(f.at.call) + "#" +
           std::to_string(f.at.k) + " " +
           (f.error_number == 0 ? "KILL" : name_of_errno(f.error_number));
}

void tell(told what) { ::prctl(k_tell, static_cast<unsigned long>(what), 0, 0, 0); }

void watch::add(unique_fd listener, pid_t pid, role r) {
    listeners_.push_back(std::move(listener));
    processes_[pid] = {.who = r, .in_main = r == role::client};
}

void watch::tidy() {
    std::erase_if(processes_, [](const auto& p) {
        const auto stat = ipc::stat_of(p.first);
        return !stat || stat->is_dead();
    });
}

void watch::close_all() {
    listeners_.clear();
    processes_.clear();
}

void watch::arm(std::optional<fault> to_inject, bool from_now) {
    count(false);
    fault_ = to_inject;
    injected_ = false;
    counts_.clear();
    record_.clear();
    count(from_now);
}

void watch::count(bool begins) {
    if (counting_ != begins && on_count) on_count(begins);
    counting_ = begins;
}

bool watch::serve(int fd, clock::time_point until, const std::function<bool()>& done) {
    while (!done || !done()) {
        const auto left =
            std::chrono::duration_cast<std::chrono::milliseconds>(until - clock::now()).count();
        if (left < 0) return false;
        std::vector<pollfd> all;
        for (const unique_fd& l : listeners_) all.push_back({l.get(), POLLIN, 0});
        all.push_back({fd, POLLIN, 0});
        // What is not a descriptor is looked at in between.
        const int pause = done ? std::min<int>(static_cast<int>(left), 1) : static_cast<int>(left);
        if (::poll(all.data(), all.size(), pause) < 0) continue;
        bool ended = false;
        for (std::size_t i = 0; i + 1 < all.size(); ++i) {
            if ((all[i].revents & POLLIN) != 0) take(all[i].fd);
            ended |= (all[i].revents & (POLLHUP | POLLERR)) != 0 && (all[i].revents & POLLIN) == 0;
        }
        if (ended)
            std::erase_if(listeners_, [](const unique_fd& l) {
                pollfd p{l.get(), POLLIN, 0};
                return ::poll(&p, 1, 0) == 1 && (p.revents & POLLIN) == 0;
            });
        if (all.back().revents != 0) return true;
    }
    return true;
}

// A new process is its parent's copy, until it executes something.
watch::watched& watch::process(pid_t pid) {
    if (const auto known = processes_.find(pid); known != processes_.end()) return known->second;
    watched w;
    w.in_main = true;
    const auto stat = ipc::stat_of(pid);
    const auto parent = processes_.find(stat ? stat->parent : 0);
    if (parent != processes_.end()) {
        switch (parent->second.who) {
            case role::daemon:
                w.who = parent->second.makes_child ? role::child : role::daemon;
                break;
            case role::template_: w.who = role::template_child; break;
            case role::client:
            case role::launcher: w.who = role::launcher; break;
            case role::command: w.who = role::command; break;
            default: break;
        }
    }
    return processes_[pid] = w;
}

// Its first call after an exec.
void watch::begin_program(pid_t pid, watched& w) {
    w.is_executing = false;
    w.in_main = false;
    const std::string path = ipc::read_link(AT_FDCWD, "/proc/" + std::to_string(pid) + "/exe");
    const std::string name = path.substr(path.rfind('/') + 1);
    const role before = w.who;
    w.who = role::program;
    if (name == "cleanforkd")
        w.who = before == role::child ? role::log_writer : role::daemon;
    else if (name == "template_faults")
        w.who = role::template_;
    else if (name == "cleanfork")
        w.who = role::command;
}

bool watch::is_idle(pid_t daemon) const {
    const auto found = processes_.find(daemon);
    if (found == processes_.end() || !is_epoll_wait(found->second.last_call)) return false;
    const auto stat = ipc::stat_of(daemon);
    return stat && stat->state == 'S';
}

std::string watch::where_all_are() const {
    std::string all;
    for (const auto& [pid, w] : processes_) {
        const auto stat = ipc::stat_of(pid);
        if (!stat || stat->is_dead() || w.who == role::program) continue;
        all += (all.empty() ? "" : ", ") + std::string(to_string(w.who)) + " in " +
               name_of_call(w.last_call) + "(" + std::to_string(w.last_fd) + ")";
    }
    return all;
}

std::string watch::about(const notice& n, role who) const {
    std::string text = std::to_string(static_cast<std::int64_t>(n.args[0])) + ", " +
                       std::to_string(static_cast<std::int64_t>(n.args[1]));
    if (n.call == SYS_openat || n.call == SYS_newfstatat || n.call == SYS_readlinkat)
        text = text_at(n.pid, n.args[1]);
    else if (n.call == SYS_execve)
        text = text_at(n.pid, n.args[0]);
#ifdef SYS_open
    else if (n.call == SYS_open || n.call == SYS_stat || n.call == SYS_unlink ||
             n.call == SYS_rename || n.call == SYS_readlink || n.call == SYS_access)
        text = text_at(n.pid, n.args[0]);
#endif
    (void)who;
    return text;
}

void watch::take(int listener) {
    const auto n = take_notice(listener);
    if (!n) return;
    watched& w = process(n->pid);
    if (w.is_executing) {
        const auto exe = n->call == SYS_brk || n->call == SYS_arch_prctl;
        w.is_executing = false;
        if (exe) begin_program(n->pid, w);
    }
    w.last_call = n->call;
    w.last_fd = n->args[0];
    if (n->call == SYS_prctl && n->args[0] == k_tell) {
        count(static_cast<told>(n->args[1]) == told::count_from_here);
        return answer(listener, *n, 0);
    }
    if (act(listener, *n, w)) return;
    if (is_exec(n->call)) w.is_executing = true;
    // It forks itself by fork(3), which asks for none of these.
    if (n->call == SYS_clone) w.makes_child = (n->args[0] & (CLONE_VM | CLONE_PIDFD)) != 0;
    if (n->call == SYS_clone3) w.makes_child = true;
    // The linker gives back what it read of its cache, and then begins the program.
    if (n->call == SYS_munmap) w.in_main = true;
    let_pass(listener, *n);
}

bool watch::act(int listener, const notice& n, const watched& w) {
    if (!counting_ || !w.in_main || w.who == role::program) return false;
    const int k = ++counts_[{w.who, n.call}];
    const point here{w.who, n.call, k};
    if (n.call == awaited_call && k == 1 && w.who == role::daemon && on_awaited) on_awaited();
    if (!fault_) {
        record_.push_back({here, n.args, about(n, w.who)});
        return false;
    }
    if (injected_ || here != fault_->at) return false;
    injected_ = true;
    record_.push_back({here, n.args, about(n, w.who)});
    if (fault_->error_number != 0) {
        answer(listener, n, fault_->error_number);
        return true;
    }
    ::kill(n.pid, SIGKILL);
    return true;
}

}  // namespace cleanfork::faults
