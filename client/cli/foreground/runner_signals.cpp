// The signals of a foreground child: which go to its process, which to its group.
//
// The child is in a process group of its own, so nothing a terminal sends to this
// command's group reaches it: each signal arrives once, through here.
#include <csignal>

#include "client/cli/foreground/runner.hpp"
#include "client/cli/options/exit_codes.hpp"

namespace cleanfork::cli {

namespace {

constexpr std::array k_watched = {SIGTERM, SIGHUP,  SIGINT,   SIGQUIT, SIGUSR1,
                                  SIGUSR2, SIGCONT, SIGWINCH, SIGTSTP};

bool asks_to_end(int number) noexcept {
    return number == SIGTERM || number == SIGHUP || number == SIGINT || number == SIGQUIT;
}

}  // namespace

void runner::watch_signals() {
    for (const int number : k_watched) {
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
        case SIGUSR1:
        case SIGUSR2: return send(number, signal_target::process);
        case SIGWINCH:
            // The kernel tells the processes on the pty.
            if (relay_) return relay_->resize();
            return send(number, group_or_process());
        default: return send(number, group_or_process());
    }
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
