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
#include <cleanfork/reports.hpp>
#include <cleanfork/spawn_options.hpp>
#include <cleanfork/templates.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cleanfork {

using timeout = std::optional<std::chrono::nanoseconds>;

namespace detail {
using spawn_handler = boost::asio::any_completion_handler<void(std::exception_ptr, process)>;
using batch_handler =
    boost::asio::any_completion_handler<void(std::exception_ptr, std::vector<result<process>>)>;
using run_handler = boost::asio::any_completion_handler<void(std::exception_ptr, run_result)>;
using list_handler =
    boost::asio::any_completion_handler<void(std::exception_ptr, std::vector<child_info>)>;
using stats_handler = boost::asio::any_completion_handler<void(std::exception_ptr, server_stats)>;
using events_handler = boost::asio::any_completion_handler<void(std::exception_ptr, event_page)>;
using void_handler = boost::asio::any_completion_handler<void(std::exception_ptr)>;
using other_wait_handler =
    boost::asio::any_completion_handler<void(std::exception_ptr, wait_result)>;
using call_run_handler = boost::asio::any_completion_handler<void(std::exception_ptr, call_result)>;
using template_handler =
    boost::asio::any_completion_handler<void(std::exception_ptr, template_info)>;
using templates_handler =
    boost::asio::any_completion_handler<void(std::exception_ptr, std::vector<template_info>)>;
}  // namespace detail

class CLEANFORK_EXPORT client {
public:
    using executor_type = boost::asio::any_io_executor;

    client() noexcept = default;  // not connected: valid() is false
    client(client&&) noexcept = default;
    client& operator=(client&&) noexcept = default;
    // Ends the session: its children meet their lifetime. Process handles stay
    // usable; their status then comes through the pidfd. Pending operations
    // fail with ECANCELED. In a forked copy of the program it ends nothing.
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
    // `timeout` passes, the child's process group gets options.timeout_signal and ETIMEDOUT is
    // thrown once the child has ended.
    // Output ends with the child's exit: a descendant that keeps the pipe open
    // does not hold the call. Of stdio::pty, all that comes from the terminal is `out`, unless
    // out is a pipe; its input is at its end.
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

    // ---- calls of a template's entries
    // As spawn(); an entry or template that there is not, or a template that
    // could not start, gives the reason at once.
    process call(std::string_view template_name, std::string_view entry, const payload& p = {},
                 const call_options& options = {}, timeout t = {}) const;
    process call(std::string_view template_name, std::string_view entry, const payload& p,
                 const call_options& options, boost::system::error_code& ec, timeout t = {}) const;
    result<process> try_call(std::string_view template_name, std::string_view entry,
                             const payload& p = {}, const call_options& options = {},
                             timeout t = {}) const;
    template <class Token>
    auto async_call(std::string_view template_name, std::string_view entry, const payload& p,
                    const call_options& options, Token&& token) const {
        return boost::asio::async_initiate<Token, void(std::exception_ptr, process)>(
            [this, template_name, entry, p](auto handler, const call_options& o) {
                start_call(template_name, entry, p, o, detail::spawn_handler(std::move(handler)));
            },
            token, std::cref(options));
    }

    // As run(), with the answer and the exception of the entry. Standard input
    // of stdio::pipe is at its end: what the entry needs is in the payload.
    call_result run_call(std::string_view template_name, std::string_view entry,
                         const payload& p = {}, const call_options& options = {},
                         timeout t = {}) const;
    result<call_result> try_run_call(std::string_view template_name, std::string_view entry,
                                     const payload& p = {}, const call_options& options = {},
                                     timeout t = {}) const;
    template <class Token>
    auto async_run_call(std::string_view template_name, std::string_view entry, const payload& p,
                        const call_options& options, Token&& token) const {
        return boost::asio::async_initiate<Token, void(std::exception_ptr, call_result)>(
            [this, template_name, entry, p](auto handler, const call_options& o) {
                start_run_call(template_name, entry, p, o,
                               detail::call_run_handler(std::move(handler)));
            },
            token, std::cref(options));
    }

    // ---- templates, of all sessions of this user
    // A name that is taken gets the next generation: calls go to the old one until
    // the new one is ready. A timeout or a cancellation ends the wait, not the start.
    cleanfork::template_info add_template(std::string_view name, const template_options& options,
                                          timeout t = {}) const;
    result<cleanfork::template_info> try_add_template(std::string_view name,
                                                      const template_options& options,
                                                      timeout t = {}) const;
    std::vector<cleanfork::template_info> templates(timeout t = {}) const;
    cleanfork::template_info template_info(std::string_view name, timeout t = {}) const;
    result<cleanfork::template_info> try_template_info(std::string_view name, timeout t = {}) const;
    // Builds it anew from what it was added with. `wait`: until that is ready or has failed.
    cleanfork::template_info reload_template(std::string_view name, bool wait = true,
                                             timeout t = {}) const;
    result<cleanfork::template_info> try_reload_template(std::string_view name, bool wait = true,
                                                         timeout t = {}) const;
    // Its children live on.
    void remove_template(std::string_view name, timeout t = {}) const;

    template <class Token>
    auto async_add_template(std::string_view name, const template_options& options,
                            Token&& token) const {
        return boost::asio::async_initiate<Token,
                                           void(std::exception_ptr, cleanfork::template_info)>(
            [this, name](auto handler, const template_options& o) {
                start_add_template(name, o, detail::template_handler(std::move(handler)));
            },
            token, std::cref(options));
    }
    template <class Token>
    auto async_templates(Token&& token) const {
        return boost::asio::async_initiate<Token, void(std::exception_ptr,
                                                       std::vector<cleanfork::template_info>)>(
            [this](auto handler) {
                start_templates(detail::templates_handler(std::move(handler)));
            },
            token);
    }
    template <class Token>
    auto async_template_info(std::string_view name, Token&& token) const {
        return boost::asio::async_initiate<Token,
                                           void(std::exception_ptr, cleanfork::template_info)>(
            [this, name](auto handler) {
                start_template_info(name, detail::template_handler(std::move(handler)));
            },
            token);
    }
    template <class Token>
    auto async_reload_template(std::string_view name, bool wait, Token&& token) const {
        return boost::asio::async_initiate<Token,
                                           void(std::exception_ptr, cleanfork::template_info)>(
            [this, name, wait](auto handler) {
                start_reload_template(name, wait, detail::template_handler(std::move(handler)));
            },
            token);
    }
    template <class Token>
    auto async_remove_template(std::string_view name, Token&& token) const {
        return boost::asio::async_initiate<Token, void(std::exception_ptr)>(
            [this, name](auto handler) {
                start_remove_template(name, detail::void_handler(std::move(handler)));
            },
            token);
    }

    // ---- children of any session of this user
    void signal(std::uint64_t child, int number, signal_target target = signal_target::process,
                timeout t = {}) const;
    wait_result wait(std::uint64_t child, timeout t = {}) const;
    std::vector<child_info> list(timeout t = {}) const;
    server_stats stats(timeout t = {}) const;
    // What has happened after the event of number `after`, in all sessions; waits for something.
    // 0 begins, and does not wait: the last of what its log has. From
    // then on until the end of this client it keeps the last 8,192 of every level; who asks too
    // slowly is told how many it has missed.
    event_page events(std::uint64_t after = 0, timeout t = {}) const;
    // Asks the forkserver to end: every child meets its lifetime.
    void shutdown(timeout t = {}) const;
    // One end of a socket that is another session with the same forkserver: for a
    // child, whose own client it becomes by attach(). The only way in for the
    // descendants of a private forkserver's program. Does not wait for an answer.
    unique_fd open_session() const;
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
    auto async_events(std::uint64_t after, Token&& token) const {
        return boost::asio::async_initiate<Token, void(std::exception_ptr, event_page)>(
            [this, after](auto handler) {
                start_events(after, detail::events_handler(std::move(handler)));
            },
            token);
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
    void start_call(std::string_view template_name, std::string_view entry, const payload&,
                    const call_options&, detail::spawn_handler) const;
    void start_run_call(std::string_view template_name, std::string_view entry, const payload&,
                        const call_options&, detail::call_run_handler) const;
    void start_add_template(std::string_view name, const template_options&,
                            detail::template_handler) const;
    void start_templates(detail::templates_handler) const;
    void start_template_info(std::string_view name, detail::template_handler) const;
    void start_reload_template(std::string_view name, bool wait, detail::template_handler) const;
    void start_remove_template(std::string_view name, detail::void_handler) const;
    void start_signal(std::uint64_t, int, signal_target, detail::void_handler) const;
    void start_other_wait(std::uint64_t, detail::other_wait_handler) const;
    void start_list(detail::list_handler) const;
    void start_stats(detail::stats_handler) const;
    void start_events(std::uint64_t after, detail::events_handler) const;
    void start_shutdown(detail::void_handler) const;
    void start_update_base(detail::void_handler) const;

    std::shared_ptr<detail::connection> connection_;
};

}  // namespace cleanfork

#include <cleanfork/detail/connect_declarations.hpp>
