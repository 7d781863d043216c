// The signals of a foreground child: which go to its process, which to its group.
//
// The child is in a process group of its own, so nothing a terminal sends to this
// command's group reaches it: each signal arrives once, through here.
#include <fcntl.h>

#include <csignal>
#include <string>

#include "client/cli/foreground/runner.hpp"
#include "client/cli/options/exit_codes.hpp"
#include "ipc/base/proc.hpp"

namespace cleanfork::cli {

namespace {

// All that somebody may send to a process, but those that tell of a fault or limit of this one.
// The real-time signals come on top.
constexpr std::array k_watched = {SIGTERM, SIGHUP,    SIGINT,  SIGQUIT,  SIGUSR1,
                                  SIGUSR2, SIGALRM,   SIGIO,   SIGPWR,   SIGSTKFLT,
                                  SIGPROF, SIGVTALRM, SIGCONT, SIGWINCH, SIGTSTP};

std::vector<int> watched() {
    std::vector<int> all(k_watched.begin(), k_watched.end());
    for (int number = SIGRTMIN; number <= SIGRTMAX; ++number) all.push_back(number);
    return all;
}

// A stopped process takes no signal but SIGKILL and SIGCONT. Where it cannot be known it may be.
bool may_be_stopped(pid_t pid) {
    const auto status =
        ipc::read_file(AT_FDCWD, "/proc/" + std::to_string(pid) + "/status").value_or("State:\tT");
    return ipc::field(status, "State:").find('T') != std::string_view::npos;
}

bool asks_to_end(int number) noexcept {
    return number == SIGTERM || number == SIGHUP || number == SIGINT || number == SIGQUIT;
}

}  // namespace

void runner::watch_signals() {
    for (const int number : watched()) {
        struct sigaction before {};
        ::sigaction(number, nullptr, &before);
        // nohup, or a background job of a shell without job control: whoever
        // started this command does not want the signal to have an effect.
        if (before.sa_handler != SIG_IGN) signals_.add(number);
    }
    next_signal();
}

void runner::next_signal() {
    signals_.async_wait([this](const boost::system::error_code& ec, int number) {
        if (ec) return;
        next_signal();
        on_signal(number);
    });
}

void runner::on_signal(int number) {
    if (!child_.valid()) return before_start(number);
    if (ended_) {
        // Only output is still to be written, and its reader may be stuck.
        if (asks_to_end(number)) finish(end_.status.shell_code());
        return;
    }
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
void runner::before_start(int number) {
    early_.push_back(number);
    if (!asks_to_end(number)) return;
    gave_up_ = number;
    cancel_spawn_.emit(boost::asio::cancellation_type::total);
}

void runner::stop() {
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
    send(SIGCONT, group_or_process());
}

signal_target runner::group_or_process() const noexcept {
    if (request_.options.lifetime.target == signal_target::tree) return signal_target::tree;
    return request_.options.group.how == process_group::kind::join ? signal_target::process
                                                                   : signal_target::group;
}

void runner::send(int number, signal_target target, std::function<void()> then) {
    sent_.insert(number);
    client_.async_signal(child_.child_id(), number, target,
                         [this, number, then = std::move(then)](const std::exception_ptr& error) {
                             // Without the forkserver the pidfd still reaches the child.
                             boost::system::error_code ended_before;
                             if (error && failure_of(error).error_number != ESRCH)
                                 child_.signal(number, ended_before);
                             if (then) then();
                         });
}

}  // namespace cleanfork::cli
