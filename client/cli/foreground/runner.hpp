// Runs one child in the foreground: starts it, forwards signals, keeps its
// timeouts, carries its terminal, and learns how it ended.
#pragma once

#include <boost/asio/any_completion_handler.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cleanfork/client.hpp>
#include <functional>
#include <optional>
#include <set>
#include <vector>

#include "client/cli/foreground/pty_relay.hpp"
#include "client/cli/foreground/server_watch.hpp"
#include "client/cli/foreground/signal_stream.hpp"
#include "client/cli/foreground/terminal_modes.hpp"
#include "client/cli/options/spawn_request.hpp"
#include "client/cli/reports/spawn_report.hpp"

namespace cleanfork::cli {

class runner {
public:
    // Starts the child: a spawn, or a call. Completes on the client's executor.
    using handler = boost::asio::any_completion_handler<void(std::exception_ptr, process)>;
    using starter = std::function<void(const spawn_options& options, handler)>;

    // All are borrowed, but `start` and `socket`. `client` completes on `io`; it is joined at
    // `socket`, or private.
    runner(boost::asio::io_context& io, const cleanfork::client& client, std::string socket,
           const spawn_request& request, const spawn_report& report, starter start);

    // The code for this command to exit with.
    int run();

    // Of a call with a result, once it has ended.
    unique_fd take_answer() noexcept { return std::move(end_.answer); }

private:
    using clock = std::chrono::steady_clock;

    bool make_terminal(spawn_options& options);
    void spawned(const std::exception_ptr& error, process child);
    void ended(const boost::system::error_code& error, const exit_status& status);
    void finish(int code);

    void watch_signals();
    void next_signal();
    void on_signal(const arrived_signal& s);
    void before_start(const arrived_signal& s);
    void in_whole_job(int number);
    void forward(int number);
    void stop();
    void resume();

    // What to do when the forkserver does not tell what it owes: whether the child was started,
    // and how it ended.
    void nobody_starts();
    void watch_end();
    void watch_server();
    void end_is_late();
    void give_up(const std::string& why);

    void arm_timeout();
    void timed_out();

    // Through the pidfd, so that a forkserver that is stopped holds up nobody; the group of older
    // kernels through the forkserver, which knows it by more than its number. `then` is called in
    // any case.
    void send(int number, signal_target target, std::function<void()> then = {});
    [[nodiscard]] signal_target group_or_process() const noexcept;
    // To all that a timeout ends.
    void send_to_all(int number);

    boost::asio::io_context& io_;
    const cleanfork::client& client_;
    const std::string socket_;
    const spawn_request& request_;
    const spawn_report& report_;
    const starter start_;

    process child_;
    child_end end_;
    bool ended_ = false;
    int exit_code_ = 0;
    clock::time_point asked_;

    signal_stream signals_;
    boost::asio::cancellation_signal cancel_spawn_;
    std::vector<arrived_signal> early_;  // that came before we knew of the child
    int gave_up_ = 0;                    // the last that asks to end
    server_watch watch_;
    std::optional<readiness> end_ready_;
    boost::asio::steady_timer late_;
    bool told_late_ = false;
    std::set<int> sent_;

    boost::asio::steady_timer timer_;
    bool killed_ = false;  // by --kill-after

    std::optional<terminal_modes> modes_;
    std::optional<pty_relay> relay_;
};

// The exit code for a spawn that failed: 127, 126 or 125.
int exit_code_of(const failure& f) noexcept;
// For a child, or a start, that a signal ended.
int code_of_signal(int number) noexcept;

}  // namespace cleanfork::cli
