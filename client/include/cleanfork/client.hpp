// A client of a forkserver: asks for processes and learns how they end.
//
//     cleanfork::client c = cleanfork::launch();          // a private forkserver
//     cleanfork::process p = c.spawn({.program = "/bin/true"});
//     int code = p.wait().code();
//
// Thread-safety: every const member may be called from many threads at once.
// The library starts no thread, installs no signal handler and never forks.
// Blocking calls read the connection themselves; asynchronous ones watch it on
// the executor given to launch() or connect().
// Errors: blocking members throw spawn_error, or fill an error_code, or return
// a result. Asynchronous spawns complete with a std::exception_ptr that holds a
// spawn_error, as boost::asio::co_spawn's do: an error_code has no room for the object.
// Executors: a context must outlive the clients, handles and operations that use
// it, or be destroyed with its operations pending, which are then dropped with it.
// fork(2): a child must not use its parent's client, not even destroy it.
// GCC before 13 may destroy an aggregate temporary in a co_await expression
// twice: give such options a name first.
// Timeouts: std::nullopt waits for ever; on expiry ETIMEDOUT, and a spawn that
// was still queued is cancelled. One that had begun is then ended with SIGKILL.
#pragma once

#include <array>
#include <chrono>
#include <cleanfork/process.hpp>
#include <cleanfork/spawn_options.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace cleanfork {

using timeout = std::optional<std::chrono::nanoseconds>;

struct launch_options {
    // cleanforkd; empty: $CLEANFORK_DAEMON, beside this program, beside the
    // library, the installed place, PATH; the error lists where it looked.
    std::string daemon{};
    std::vector<std::string> daemon_args{};
    // Where the forkserver logs; borrowed. -1: /dev/null, so that it holds none
    // of the caller's descriptors.
    int log_fd = -1;
    std::chrono::nanoseconds timeout = std::chrono::seconds(10);
};

struct connect_options {
    std::string path{};  // empty: default_socket_path()
    std::chrono::nanoseconds timeout = std::chrono::seconds(10);
};

// $CLEANFORK_SOCKET, else $XDG_RUNTIME_DIR/cleanfork/socket, else /run/cleanfork/socket (root)
// or /run/user/UID/cleanfork/socket.
CLEANFORK_EXPORT std::string default_socket_path();

struct server_info {
    std::string instance;  // changes at each start of the forkserver
    std::string version;
    pid_t pid = 0;
    std::uint64_t session = 0;
    std::vector<std::string> features;
};

struct child_info {
    std::uint64_t child = 0;
    pid_t pid = 0;
    std::uint64_t session = 0;  // 0: kept beyond its session
    std::string command;
    std::chrono::nanoseconds age{};
    bool keep = false;
    std::optional<exit_status> status;  // empty while it runs
    resource_usage usage;
    std::chrono::nanoseconds wall{};
};

struct server_stats {
    pid_t pid = 0;
    std::string version, instance;
    std::chrono::nanoseconds uptime{};
    std::uint64_t sessions = 0, sessions_total = 0;
    std::uint64_t children = 0, statuses = 0, queued = 0;
    std::uint64_t spawned_total = 0, failed_total = 0, exited_total = 0;
    std::uint64_t protocol_errors_total = 0, quota_refusals_total = 0;
    std::uint64_t descriptors = 0, rss_kib = 0;
    std::chrono::nanoseconds spawn_time_total{}, spawn_time_max{};
};

// What client::run() gathers.
struct run_result {
    exit_status status;
    std::string out;  // of stdio::pipe
    std::string err;
    resource_usage usage;
    std::chrono::nanoseconds wall{};
    pid_t pid = 0;
};

struct wait_result {
    exit_status status;
    resource_usage usage;
    std::chrono::nanoseconds wall{};
};

namespace detail {
using spawn_handler = boost::asio::any_completion_handler<void(std::exception_ptr, process)>;
using batch_handler =
    boost::asio::any_completion_handler<void(std::exception_ptr, std::vector<result<process>>)>;
using run_handler = boost::asio::any_completion_handler<void(std::exception_ptr, run_result)>;
using list_handler =
    boost::asio::any_completion_handler<void(std::exception_ptr, std::vector<child_info>)>;
using stats_handler = boost::asio::any_completion_handler<void(std::exception_ptr, server_stats)>;
using void_handler = boost::asio::any_completion_handler<void(std::exception_ptr)>;
using other_wait_handler =
    boost::asio::any_completion_handler<void(std::exception_ptr, wait_result)>;
}  // namespace detail

class CLEANFORK_EXPORT client {
public:
    using executor_type = boost::asio::any_io_executor;

    client() noexcept = default;  // not connected: valid() is false
    client(client&&) noexcept = default;
    client& operator=(client&&) noexcept = default;
    // Ends the session: its children meet their lifetime. Process handles stay
    // usable; their status then comes through the pidfd. Pending operations
    // fail with ECANCELED.
    ~client();

    [[nodiscard]] bool valid() const noexcept { return connection_ != nullptr; }
    [[nodiscard]] bool connected() const noexcept;  // false once the forkserver is lost
    [[nodiscard]] const server_info& server() const;
    [[nodiscard]] executor_type get_executor() const noexcept;  // empty for a blocking-only client

    // ---- spawn
    process spawn(const spawn_options& options, timeout t = {}) const;
    process spawn(const spawn_options& options, boost::system::error_code& ec,
                  timeout t = {}) const;
    result<process> try_spawn(const spawn_options& options, timeout t = {}) const;

    // void(std::exception_ptr, process). Cancellation (total): a spawn that is
    // still queued completes with ECANCELED; one that had begun completes as usual.
    template <class Token>
    auto async_spawn(const spawn_options& options, Token&& token) const {
        return boost::asio::async_initiate<Token, void(std::exception_ptr, process)>(
            [this](auto handler, const spawn_options& o) {
                start_spawn(o, detail::spawn_handler(std::move(handler)));
            },
            token, std::cref(options));
    }

    // One packet, at most 64 items and 64 descriptors; a result each, in order.
    std::vector<result<process>> spawn_batch(const std::vector<spawn_options>& items,
                                             timeout t = {}) const;
    template <class Token>
    auto async_spawn_batch(const std::vector<spawn_options>& items, Token&& token) const {
        return boost::asio::async_initiate<Token,
                                           void(std::exception_ptr, std::vector<result<process>>)>(
            [this](auto handler, const std::vector<spawn_options>& i) {
                start_batch(i, detail::batch_handler(std::move(handler)));
            },
            token, std::cref(items));
    }

    // Spawns, feeds `input` when options.in is stdio::pipe, gathers what comes
    // through stdio::pipe of out and err without deadlock, and waits. When
    // `timeout` passes, the child's process group is killed and ETIMEDOUT thrown.
    // Output ends with the child's exit: a descendant that keeps the pipe open
    // does not hold the call.
    run_result run(const spawn_options& options, std::string_view input = {}, timeout t = {}) const;
    result<run_result> try_run(const spawn_options& options, std::string_view input = {},
                               timeout t = {}) const;
    template <class Token>
    auto async_run(const spawn_options& options, std::string input, Token&& token) const {
        return boost::asio::async_initiate<Token, void(std::exception_ptr, run_result)>(
            [this](auto handler, const spawn_options& o, std::string i) {
                start_run(o, std::move(i), detail::run_handler(std::move(handler)));
            },
            token, std::cref(options), std::move(input));
    }

    // ---- children of any session of this user
    void signal(std::uint64_t child, int number, signal_target target = signal_target::process,
                timeout t = {}) const;
    wait_result wait(std::uint64_t child, timeout t = {}) const;
    std::vector<child_info> list(timeout t = {}) const;
    server_stats stats(timeout t = {}) const;
    // Asks the forkserver to end: every child meets its lifetime.
    void shutdown(timeout t = {}) const;
    // Sends the caller's current environment and working directory as the base
    // of the session's later spawns.
    void update_base(timeout t = {}) const;

    template <class Token>
    auto async_signal(std::uint64_t child, int number, signal_target target, Token&& token) const {
        return boost::asio::async_initiate<Token, void(std::exception_ptr)>(
            [this, child, number, target](auto handler) {
                start_signal(child, number, target, detail::void_handler(std::move(handler)));
            },
            token);
    }
    template <class Token>
    auto async_wait(std::uint64_t child, Token&& token) const {
        return boost::asio::async_initiate<Token, void(std::exception_ptr, wait_result)>(
            [this, child](auto handler) {
                start_other_wait(child, detail::other_wait_handler(std::move(handler)));
            },
            token);
    }
    template <class Token>
    auto async_list(Token&& token) const {
        return boost::asio::async_initiate<Token,
                                           void(std::exception_ptr, std::vector<child_info>)>(
            [this](auto handler) { start_list(detail::list_handler(std::move(handler))); }, token);
    }
    template <class Token>
    auto async_stats(Token&& token) const {
        return boost::asio::async_initiate<Token, void(std::exception_ptr, server_stats)>(
            [this](auto handler) { start_stats(detail::stats_handler(std::move(handler))); },
            token);
    }
    template <class Token>
    auto async_shutdown(Token&& token) const {
        return boost::asio::async_initiate<Token, void(std::exception_ptr)>(
            [this](auto handler) { start_shutdown(detail::void_handler(std::move(handler))); },
            token);
    }
    template <class Token>
    auto async_update_base(Token&& token) const {
        return boost::asio::async_initiate<Token, void(std::exception_ptr)>(
            [this](auto handler) { start_update_base(detail::void_handler(std::move(handler))); },
            token);
    }

private:
    friend class detail::connection;
    explicit client(std::shared_ptr<detail::connection> c) noexcept;

    void start_spawn(const spawn_options&, detail::spawn_handler) const;
    void start_batch(const std::vector<spawn_options>&, detail::batch_handler) const;
    void start_run(const spawn_options&, std::string input, detail::run_handler) const;
    void start_signal(std::uint64_t, int, signal_target, detail::void_handler) const;
    void start_other_wait(std::uint64_t, detail::other_wait_handler) const;
    void start_list(detail::list_handler) const;
    void start_stats(detail::stats_handler) const;
    void start_shutdown(detail::void_handler) const;
    void start_update_base(detail::void_handler) const;

    std::shared_ptr<detail::connection> connection_;
};

// Starts a private forkserver with posix_spawn: safe from a program with
// threads. It ends when the client is destroyed or its process dies.
CLEANFORK_EXPORT client launch(const launch_options& options = {});
CLEANFORK_EXPORT client launch(boost::asio::any_io_executor executor,
                               const launch_options& options = {});

// Joins a running forkserver of the same user.
CLEANFORK_EXPORT client connect(const connect_options& options = {});

namespace detail {
CLEANFORK_EXPORT client connect_with(boost::asio::any_io_executor, const connect_options&);

// Not any_io_executor as the parameter: whether a type is an executor, Asio finds
// out by asking for connect(it, ...) among others, meets ours, and turns in a circle.
template <class E>
concept executor = requires(const E& e) {
    e.execute([] {});
};
}  // namespace detail

template <detail::executor E>
client connect(E executor, const connect_options& options = {}) {
    return detail::connect_with(std::move(executor), options);
}

namespace detail {
using client_handler = boost::asio::any_completion_handler<void(std::exception_ptr, client)>;
CLEANFORK_EXPORT void start_launch(boost::asio::any_io_executor, const launch_options&,
                                   client_handler);
CLEANFORK_EXPORT void start_connect(boost::asio::any_io_executor, const connect_options&,
                                    client_handler);
}  // namespace detail

template <class Token>
auto async_launch(boost::asio::any_io_executor executor, const launch_options& options,
                  Token&& token) {
    return boost::asio::async_initiate<Token, void(std::exception_ptr, client)>(
        [executor](auto handler, const launch_options& o) {
            detail::start_launch(executor, o, detail::client_handler(std::move(handler)));
        },
        token, std::cref(options));
}
template <class Token>
auto async_connect(boost::asio::any_io_executor executor, const connect_options& options,
                   Token&& token) {
    return boost::asio::async_initiate<Token, void(std::exception_ptr, client)>(
        [executor](auto handler, const connect_options& o) {
            detail::start_connect(executor, o, detail::client_handler(std::move(handler)));
        },
        token, std::cref(options));
}

}  // namespace cleanfork
