// The signals of a foreground child: which go to its process, which to its group.
//
// A child in a process group of its own gets nothing of what a terminal sends to this command's
// group, so each signal arrives once, through here. One in our own group, at a terminal, has what
// the terminal sends from the kernel; what is sent to this command alone is forwarded.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string>

#include "client/cli/foreground/job.hpp"
#include "client/cli/foreground/runner.hpp"
#include "client/cli/options/exit_codes.hpp"
#include "ipc/base/proc.hpp"
#include "ipc/base/process_ref.hpp"
#include "ipc/base/process_stat.hpp"

namespace cleanfork::cli {

namespace {

// All that somebody may send to a process, but those that tell of a fault or limit of this one.
// The real-time signals come on top.
constexpr std::array k_watched = {SIGTERM, SIGHUP,   SIGINT,  SIGQUIT,   SIGUSR1, SIGUSR2,
                                  SIGALRM, SIGIO,    SIGPWR,  SIGSTKFLT, SIGPROF, SIGVTALRM,
                                  SIGCONT, SIGWINCH, SIGTSTP, SIGURG,    SIGCHLD};

std::vector<int> watched() {
    std::vector<int> all(k_watched.begin(), k_watched.end());
    for (int number = SIGRTMIN; number <= SIGRTMAX; ++number) all.push_back(number);
    return all;
}

// A stopped process takes no signal but SIGKILL and SIGCONT. Where it cannot be known it may be.
bool may_be_stopped(pid_t pid) {
    const auto stat = ipc::stat_of(pid);
    return !stat || stat->is_stopped();
}

bool asks_to_end(int number) noexcept {
    return number == SIGTERM || number == SIGHUP || number == SIGINT || number == SIGQUIT;
}

}  // namespace

void runner::watch_signals() {
    std::vector<int> wanted;
    for (const int number : watched()) {
        struct sigaction before {};
        ::sigaction(number, nullptr, &before);
        // nohup, or a background job of a shell without job control: whoever
        // started this command does not want the signal to have an effect.
        if (before.sa_handler != SIG_IGN) wanted.push_back(number);
    }
    signals_.open(wanted);
    next_signal();
}

void runner::next_signal() {
    signals_.async_next([this](const arrived_signal& s) {
        next_signal();
        on_signal(s);
    });
}

void runner::on_signal(const arrived_signal& s) {
    if (!child_.valid()) return before_start(s);
    if (ended_) {
        // Only output is still to be written, and its reader may be stuck.
        if (asks_to_end(s.number)) finish(end_.status.shell_code());
        return;
    }
    // Of a child that this process itself has had, before it became one of the forkserver.
    if (s.number == SIGCHLD && s.from_kernel) return;
    if (asks_to_end(s.number)) {
        gave_up_ = s.number;
        if (told_late_) return end_is_late();
    }
    // The end of a terminal is told to the session's leader alone, who passes it on.
    const bool for_us = s.number == SIGHUP && ::getsid(0) == ::getpid();
    if (request_.in_job && s.from_kernel && !for_us) return in_whole_job(s.number);
    forward(s.number);
}

// The child has it already.
void runner::in_whole_job(int number) {
    sent_.insert(number);
    if (number != SIGTSTP) return;
    // The kernel spares a job that nobody could continue; the child's parent, the forkserver, is
    // somebody in its eyes.
    if (job_is_orphaned()) return send(SIGCONT, signal_target::process);
    take_default_action(SIGTSTP);
}

void runner::forward(int number) {
    switch (number) {
        case SIGTSTP: return stop();
        case SIGCONT: return resume();
        case SIGWINCH:
            // The kernel tells the processes on the pty.
            if (relay_) return relay_->resize();
            return send(number, group_or_process());
        default: break;
    }
    if (!asks_to_end(number)) return send(number, signal_target::process);
    send(number, group_or_process());
    // As timeout(1): one that is stopped would never see it.
    if (may_be_stopped(child_.id())) send(SIGCONT, group_or_process());
}

// The child may run by now, and only the news of it be on its way: it gets every
// signal then. A spawn that is still queued can be taken back.
void runner::before_start(const arrived_signal& s) {
    early_.push_back(s);
    if (!asks_to_end(s.number)) return;
    gave_up_ = s.number;
    cancel_spawn_.emit(boost::asio::cancellation_type::total);
    late_.expires_after(k_patience_of_a_person);
    late_.async_wait([this](const boost::system::error_code& ec) {
        if (!ec && !child_.valid()) finish(code_of_signal(gave_up_));
    });
}

void runner::stop() {
    if (request_.in_job) {
        if (job_is_orphaned()) return;
        send(SIGTSTP, signal_target::process);
        return take_default_action(SIGTSTP);
    }
    // The group of a session's leader is orphaned: the kernel drops SIGTSTP there.
    const bool orphaned = request_.options.group.how == process_group::kind::session;
    send(orphaned ? SIGSTOP : SIGTSTP, group_or_process(), [this] {
        if (ended_) return;
        if (modes_) modes_->restore();
        // Not SIGTSTP, which would come back here. What follows is in resume().
        ::raise(SIGSTOP);
    });
}

void runner::resume() {
    if (relay_) {
        modes_->enter_raw();
        relay_->resize();
    }
    // Who continues a job continues all of it; a second SIGCONT would be one too many.
    if (request_.in_job && !may_be_stopped(child_.id())) return;
    send(SIGCONT, group_or_process());
}

signal_target runner::group_or_process() const noexcept {
    if (request_.options.lifetime.target == signal_target::tree) return signal_target::tree;
    return request_.options.group.how == process_group::kind::join ? signal_target::process
                                                                   : signal_target::group;
}

void runner::send(int number, signal_target target, std::function<void()> then) {
    sent_.insert(number);
    // Of a tree the forkserver alone knows all.
    const int error = target == signal_target::tree ? ENOSYS
                      : target == signal_target::group
                          ? ipc::pidfd_signal_group(child_.native_handle(), number)
                          : ipc::pidfd_signal(child_.native_handle(), number);
    if (error == 0 || error == ESRCH) {
        if (then) then();
        return;
    }
    client_.async_signal(child_.child_id(), number, target,
                         [this, number, then = std::move(then)](const std::exception_ptr& why) {
                             // Without the forkserver the pidfd still reaches the child.
                             boost::system::error_code ended_before;
                             if (why && failure_of(why).error_number != ESRCH)
                                 child_.signal(number, ended_before);
                             if (then) then();
                         });
}

void runner::send_to_all(int number) {
    if (!request_.in_job || group_or_process() == signal_target::tree)
        return send(number, group_or_process());
    for (const pid_t pid : members_of_child(child_.id(), client_.server().pid))
        if (pid != child_.id()) ::kill(pid, number);
    send(number, signal_target::process);
}

}  // namespace cleanfork::cli
