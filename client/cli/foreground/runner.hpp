// Runs one child in the foreground: starts it, forwards signals, keeps its
// timeouts, carries its terminal, and learns how it ended.
#pragma once

#include <boost/asio/any_completion_handler.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cleanfork/client.hpp>
#include <functional>
#include <optional>
#include <set>
#include <vector>

#include "client/cli/foreground/pty_relay.hpp"
#include "client/cli/foreground/terminal_modes.hpp"
#include "client/cli/options/spawn_request.hpp"
#include "client/cli/reports/spawn_report.hpp"

namespace cleanfork::cli {

class runner {
public:
    // Starts the child: a spawn, or a call. Completes on the client's executor.
    using handler = boost::asio::any_completion_handler<void(std::exception_ptr, process)>;
    using starter = std::function<void(const spawn_options& options, handler)>;

    // All are borrowed, but `start`. `client` completes on `io`.
    runner(boost::asio::io_context& io, const cleanfork::client& client,
           const spawn_request& request, const spawn_report& report, starter start);

    // The code for this command to exit with.
    int run();

    // Before run(): a forkserver that cannot make the child what this process is tells nobody;
    // the failure is here afterwards, and another forkserver can be asked.
    void keep_other_identity() noexcept { keeps_other_identity_ = true; }
    [[nodiscard]] const std::optional<failure>& other_identity() const noexcept {
        return other_identity_;
    }

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
    void on_signal(int number);
    void before_start(int number);
    void stop();
    void resume();

    void arm_timeout();
    void timed_out();

    // Through the forkserver, which knows groups by more than their number; `then`
    // is called in any case.
    void send(int number, signal_target target, std::function<void()> then = {});
    [[nodiscard]] signal_target group_or_process() const noexcept;

    boost::asio::io_context& io_;
    const cleanfork::client& client_;
    const spawn_request& request_;
    const spawn_report& report_;
    const starter start_;

    process child_;
    child_end end_;
    bool ended_ = false;
    int exit_code_ = 0;
    clock::time_point asked_;

    boost::asio::signal_set signals_;
    boost::asio::cancellation_signal cancel_spawn_;
    std::vector<int> early_;  // signals that came before we knew of the child
    int gave_up_ = 0;         // the one of them that asks to end
    std::set<int> sent_;

    boost::asio::steady_timer timer_;
    bool killed_ = false;  // by --kill-after
    bool keeps_other_identity_ = false;
    std::optional<failure> other_identity_;

    std::optional<terminal_modes> modes_;
    std::optional<pty_relay> relay_;
};

// The exit code for a spawn that failed: 127, 126 or 125.
int exit_code_of(const failure& f) noexcept;

}  // namespace cleanfork::cli
