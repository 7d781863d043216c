#include "client/cli/foreground/runner.hpp"

#include <unistd.h>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <cerrno>

#include "client/cli/options/exit_codes.hpp"

namespace cleanfork::cli {

int exit_code_of(const failure& f) noexcept {
    if (f.step == step::entry || f.step == step::template_name) return k_exit_not_found;
    if (f.step != step::exec) return k_exit_failed;
    return f.error_number == ENOENT ? k_exit_not_found : k_exit_not_executable;
}

// As a shell has it; of SIGINT this command dies too.
int code_of_signal(int number) noexcept {
    return (number == SIGINT ? k_dies_of_signal : k_exit_signal_base) + number;
}

runner::runner(boost::asio::io_context& io, const cleanfork::client& client, std::string socket,
               const spawn_request& request, const spawn_report& report, starter start)
    : io_(io),
      client_(client),
      socket_(std::move(socket)),
      request_(request),
      report_(report),
      start_(std::move(start)),
      signals_(io),
      watch_(io, client, [this] { nobody_starts(); }),
      late_(io),
      timer_(io) {}

int runner::run() {
    spawn_options options = request_.options;
    if (request_.pty && !make_terminal(options)) return k_exit_failed;
    watch_signals();
    asked_ = clock::now();
    start_(options,
           boost::asio::bind_cancellation_slot(
               cancel_spawn_.slot(), [this](const std::exception_ptr& error, process child) {
                   spawned(error, std::move(child));
               }));
    watch_.start();
    io_.run();
    return exit_code_;
}

bool runner::make_terminal(spawn_options& options) {
    modes_.emplace(STDIN_FILENO);
    auto pty = open_pty(modes_->is_terminal() ? &modes_->saved() : nullptr);
    if (!pty) {
        report_.error(pty.error().why);
        return false;
    }
    relay_.emplace(io_, std::move(*pty),
                   pty_relay::events{
                       .drained = [this] { finish(end_.status.shell_code()); },
                       .output_lost = [this] { send(SIGHUP, signal_target::group); },
                   });
    options.in = options.out = options.err = stdio::descriptor{relay_->slave()};
    return true;
}

void runner::spawned(const std::exception_ptr& error, process child) {
    watch_.stop();
    late_.cancel();
    if (error) {
        const failure why = failure_of(error);
        if (gave_up_ != 0 && why.error_number == ECANCELED) return finish(code_of_signal(gave_up_));
        if (keeps_other_identity_ && why.step == step::identity)
            other_identity_ = why;
        else
            report_.failed(why);
        return finish(exit_code_of(why));
    }
    child_ = std::move(child);
    report_.started(child_, clock::now() - asked_);
    if (relay_) {
        modes_->enter_raw();
        relay_->start();
    }
    arm_timeout();
    child_.async_wait([this](const boost::system::error_code& ec, const exit_status& status) {
        ended(ec, status);
    });
    watch_end();
    watch_server();
    for (const arrived_signal& s : early_) on_signal(s);
}

void runner::ended(const boost::system::error_code& error, const exit_status& status) {
    ended_ = true;
    timer_.cancel();
    late_.cancel();
    end_.status = error ? exit_status::unknown(error.message()) : status;
    end_.usage = child_.usage();
    end_.wall = child_.wall_time();
    end_.turnaround = clock::now() - asked_;
    end_.exception = child_.error();
    end_.answer = child_.take_result();
    end_.expected = end_.status.is_signaled() && sent_.contains(end_.status.signal());
    // As from env(1): a daemon that the child has started is not this command's.
    if (request_.options.lifetime.target != signal_target::tree) child_.leave_rest();
    if (relay_) return relay_->child_ended();
    finish(end_.status.shell_code());
}

void runner::finish(int code) {
    if (modes_) modes_->restore();
    if (ended_) {
        // A shell ends its loop at Ctrl-C only when what it runs dies of it.
        if (end_.status.is_signaled() && end_.status.signal() == SIGINT)
            code = code_of_signal(SIGINT);
        if (end_.timed_out) code = killed_ ? k_exit_signal_base + SIGKILL : k_exit_timed_out;
        if (end_.status.is_unknown())
            report_.error("the status of the child is unknown: " + end_.status.why());
        report_.ended(child_, end_);
    }
    exit_code_ = code;
    io_.stop();
}

void runner::arm_timeout() {
    if (!request_.timeout) return;
    timer_.expires_after(*request_.timeout);
    timer_.async_wait([this](const boost::system::error_code& ec) {
        if (!ec && !ended_) timed_out();
    });
}

void runner::timed_out() {
    end_.timed_out = true;
    const int number = request_.timeout_signal;
    report_.note("timed out after " + show_duration(*request_.timeout) + ": " +
                 signal_name(number));
    // As from timeout(1), the exit status then tells of SIGKILL.
    killed_ = number == SIGKILL;
    send_to_all(number);
    // A stopped process takes no other signal.
    if (!killed_) send_to_all(SIGCONT);
    if (!request_.kill_after) return;
    timer_.expires_after(*request_.kill_after);
    timer_.async_wait([this](const boost::system::error_code& ec) {
        if (ec || ended_) return;
        killed_ = true;
        report_.note("still running " + show_duration(*request_.kill_after) + " later: SIGKILL");
        send_to_all(SIGKILL);
    });
}

}  // namespace cleanfork::cli
