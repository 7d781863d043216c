// A child of the forkserver: a handle with its pidfd and, once it ended, its status.
//
// Ownership: move-only. Dropping the handle neither signals nor waits: the
// child lives until it ends or its session does (lifetime). Call detach() to
// say so in code, or keep the handle.
// Thread-safety: the const members and signal() may be called from many threads
// at once; take_*() and moving may not run beside anything else on the handle.
#pragma once

#include <sys/types.h>

#include <boost/asio/any_completion_handler.hpp>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <chrono>
#include <cleanfork/error.hpp>
#include <cleanfork/exit_status.hpp>
#include <cleanfork/spawn_options.hpp>
#include <cleanfork/unique_fd.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace cleanfork {

namespace detail {
class connection;
class child_state;
using wait_handler =
    boost::asio::any_completion_handler<void(boost::system::error_code, exit_status)>;
}  // namespace detail

// What an entry returned, or ended with.
struct call_answer {
    int code = 0;
    std::string error{};  // the text of its exception
};

class CLEANFORK_EXPORT process {
public:
    using executor_type = boost::asio::any_io_executor;

    process() noexcept = default;  // refers to no child: valid() is false
    process(process&&) noexcept = default;
    process& operator=(process&&) noexcept = default;
    ~process() = default;

    [[nodiscard]] bool valid() const noexcept { return state_ != nullptr; }

    // For display: signal and poll through native_handle(), pids are reused. With restarts both
    // are of the first process; the child's number stays.
    [[nodiscard]] pid_t id() const noexcept;
    // The forkserver's number for this child, as in `cleanfork ps`.
    [[nodiscard]] std::uint64_t child_id() const noexcept;
    // The pidfd, borrowed: readable once the child has ended.
    [[nodiscard]] int native_handle() const noexcept;
    // Where completions without an executor of their own go: the client's.
    [[nodiscard]] executor_type get_executor() const noexcept;

    // Blocks until the child has ended. Any number of threads may wait at once.
    // When the forkserver is lost, the status comes through the pidfd (Linux
    // 6.15), else it is unknown("forkserver lost") once the child has ended.
    exit_status wait() const;
    exit_status wait(boost::system::error_code& ec) const;
    // nullopt when it still runs after `timeout`.
    std::optional<exit_status> wait_for(std::chrono::nanoseconds timeout) const;

    // Completion signature void(boost::system::error_code, exit_status).
    // Cancellation (terminal) ends the wait with operation_aborted; the child
    // is not touched. Needs a client made with an executor (or one associated
    // with the token).
    template <class Token>
    auto async_wait(Token&& token) const {
        return boost::asio::async_initiate<Token, void(boost::system::error_code, exit_status)>(
            [state = state_](auto handler) {
                start_wait(state, detail::wait_handler(std::move(handler)));
            },
            token);
    }

    // Of a call made with call_options::answer: blocks until its entry has returned, which is
    // before its process has ended, sooner by all that ending it takes. The status comes later, and
    // is another thing: wait(). nullopt: it has ended without (a signal, an exit, an exec), or has
    // not returned `within` that time. Any number of threads may wait. Throws spawn_error (EINVAL)
    // when the call was made without.
    std::optional<call_answer> wait_answer(
        std::optional<std::chrono::nanoseconds> within = {}) const;

    // False once the child has ended. Does not block.
    [[nodiscard]] bool running() const;
    // The status and usage if the child has ended and the client knows; does not block.
    [[nodiscard]] std::optional<exit_status> status() const;
    [[nodiscard]] resource_usage usage() const;
    // From the clone to the reap, 0 while unknown.
    [[nodiscard]] std::chrono::nanoseconds wall_time() const;

    // Of a call: the text of the exception its entry ended with. Empty when there
    // was none, and while that is unknown.
    [[nodiscard]] std::string error() const;

    // Signals go through the pidfd: free of pid reuse, without the forkserver; those to a child
    // with restarts through the forkserver, since its process is not always the same.
    // A child that has ended gives step::signal, ESRCH.
    void signal(int number) const;
    void signal(int number, boost::system::error_code& ec) const;
    void signal_group(int number) const;  // the process group; asks the forkserver
    // The child and all its descendants; asks the forkserver. For a child whose lifetime has the
    // target tree, else step::signal, EINVAL. Also after the child itself has ended, until it is
    // forgotten. SIGKILL ends those that fork meanwhile, too.
    void signal_tree(int number) const;
    void kill_tree() const { signal_tree(SIGKILL); }
    // By what that finds them.
    [[nodiscard]] tree_means tree() const noexcept;
    void interrupt() const { signal(SIGINT); }
    void request_exit() const { signal(SIGTERM); }
    void terminate() const { signal(SIGKILL); }

    // The caller's ends of pipes asked for with stdio::pipe; empty if not, or taken.
    [[nodiscard]] int in() const noexcept { return in_.get(); }
    [[nodiscard]] int out() const noexcept { return out_.get(); }
    [[nodiscard]] int err() const noexcept { return err_.get(); }
    unique_fd take_in() noexcept { return std::move(in_); }
    unique_fd take_out() noexcept { return std::move(out_); }
    unique_fd take_err() noexcept { return std::move(err_); }
    // The caller's end of the terminal asked for with stdio::pty, blocking, to read and to write;
    // empty if not, or taken. For Asio it fits a posix::stream_descriptor.
    [[nodiscard]] int pty() const noexcept { return pty_.get(); }
    unique_fd take_pty() noexcept { return std::move(pty_); }
    // The terminal has another size: SIGWINCH for its foreground group. resize_pty() once taken.
    void resize(unsigned short rows, unsigned short columns) const;
    void resize(unsigned short rows, unsigned short columns, boost::system::error_code& ec) const;
    // The memfd with the answer of a call made with call_options::result, for
    // read_result() once the child has ended; empty if not, or taken.
    unique_fd take_result() noexcept { return std::move(result_); }

    // Once it has ended: what it left in its process group or cgroup lives on, and does not meet
    // its lifetime when the session ends. Before that without effect.
    void leave_rest() const;

    // Forgets the child; its lifetime decides what becomes of it.
    void detach() noexcept { *this = process(); }

private:
    friend class detail::connection;
    static void start_wait(const std::shared_ptr<detail::child_state>& state,
                           detail::wait_handler handler);

    std::shared_ptr<detail::child_state> state_;
    unique_fd in_, out_, err_, pty_, result_;
};

}  // namespace cleanfork
