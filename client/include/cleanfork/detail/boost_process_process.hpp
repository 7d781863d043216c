// basic_process and its launcher, as in Boost.Process v2.
#pragma once

#include <boost/asio/execution/executor.hpp>
#include <boost/asio/is_executor.hpp>
#include <cleanfork/detail/boost_process_handle.hpp>
#include <cleanfork/detail/boost_process_request.hpp>
#include <initializer_list>

namespace cleanfork::boost_process {

namespace detail {

template <class E>
concept executor_type = asio::execution::is_executor<E>::value || asio::is_executor<E>::value;

// `{L"a"}`, but never `{}`, which stays the list of narrow strings. (Boost 1.81
// finds `{}` ambiguous when it is given an executor.)
template <class T>
concept wide_string = std::is_convertible_v<T, wstring_view>;

// What a launcher is told first: an executor, or a context that has one.
template <class T>
concept launch_place =
    executor_type<std::remove_cvref_t<T>> || context_type<std::remove_reference_t<T>>;

template <launch_place Place>
auto executor_at(Place& place) {
    if constexpr (executor_type<std::remove_cvref_t<Place>>)
        return place;
    else
        return place.get_executor();
}

}  // namespace detail

// Owns a child: its destructor kills it if it still runs, and waits for its end. A forked copy
// of the program owns nothing.
template <class Executor = boost::asio::any_io_executor>
class basic_process {
public:
    using executor_type = Executor;
    using handle_type = basic_process_handle<Executor>;
    using native_handle_type = typename handle_type::native_handle_type;
    template <class Executor1>
    struct rebind_executor {
        using other = basic_process<Executor1>;
    };

    basic_process() = default;  // refers to no child, as one made from an executor alone
    explicit basic_process(executor_type e) : handle_(std::move(e)) {}
    template <detail::context_type Context>
    explicit basic_process(Context& context) : handle_(context.get_executor()) {}
    explicit basic_process(handle_type h) : handle_(std::move(h)) {}

    template <class... Inits>
    basic_process(executor_type e, const filesystem::path& exe,
                  std::initializer_list<string_view> args, Inits&&... inits)
        : handle_(started(std::move(e), exe, args, inits...)) {}
    template <detail::wide_string Wide = wstring_view, class... Inits>
    basic_process(executor_type e, const filesystem::path& exe, std::initializer_list<Wide> args,
                  Inits&&... inits)
        : handle_(started(std::move(e), exe, as_wide(args), inits...)) {}
    template <class Args, class... Inits>
    basic_process(executor_type e, const filesystem::path& exe, Args&& args, Inits&&... inits)
        : handle_(started(std::move(e), exe, std::forward<Args>(args), inits...)) {}

    template <detail::context_type Context, class... Inits>
    basic_process(Context& context, const filesystem::path& exe,
                  std::initializer_list<string_view> args, Inits&&... inits)
        : handle_(started(context.get_executor(), exe, args, inits...)) {}
    template <detail::context_type Context, class Args, class... Inits>
    basic_process(Context& context, const filesystem::path& exe, Args&& args, Inits&&... inits)
        : handle_(started(context.get_executor(), exe, std::forward<Args>(args), inits...)) {}

    // A status needs the forkserver: it has none of a process it did not start.
    template <class Place, std::same_as<pid_type>... Pid>
    requires(sizeof...(Pid) == 1 || sizeof...(Pid) == 2) basic_process(Place&&, Pid...) {
        detail::refuse_foreign_pid<Pid...>();
    }

    basic_process(basic_process&&) = default;
    // As Boost's: what was assigned to is neither killed nor waited for.
    basic_process& operator=(basic_process&&) = default;
    template <class Executor1>
    basic_process(basic_process<Executor1>&& other)
        : handle_(std::move(other.handle_)), detached_(other.detached_) {}
    ~basic_process() {
        if (handle_.child_ && handle_.child_->owner.is_this()) handle_.terminate_if_running();
    }

    executor_type get_executor() const { return handle_.get_executor(); }
    handle_type& handle() { return handle_; }
    const handle_type& handle() const { return handle_; }
    [[nodiscard]] native_handle_type native_handle() const { return handle_.native_handle(); }
    [[nodiscard]] pid_type id() const { return handle_.id(); }
    [[nodiscard]] bool is_open() const { return handle_.is_open(); }

    void interrupt() { handle_.interrupt(); }
    void interrupt(error_code& ec) { handle_.interrupt(ec); }
    void request_exit() { handle_.request_exit(); }
    void request_exit(error_code& ec) { handle_.request_exit(ec); }
    void suspend() { handle_.suspend(); }
    void suspend(error_code& ec) { handle_.suspend(ec); }
    void resume() { handle_.resume(); }
    void resume(error_code& ec) { handle_.resume(ec); }
    void terminate() { handle_.signal(SIGKILL); }
    void terminate(error_code& ec) { handle_.signal(SIGKILL, ec); }

    int wait() {
        native_exit_code_type ignored{};
        handle_.wait(ignored);
        return exit_code();
    }
    int wait(error_code& ec) {
        native_exit_code_type ignored{};
        handle_.wait(ignored, ec);
        return exit_code();
    }
    bool running() {
        native_exit_code_type ignored{};
        return handle_.running(ignored);
    }
    bool running(error_code& ec) {
        native_exit_code_type ignored{};
        return handle_.running(ignored, ec);
    }

    // Known after any kind of wait, or once running() was false. A child that
    // died of signal n has exit code n.
    [[nodiscard]] int exit_code() const { return evaluate_exit_code(native_exit_code()); }
    [[nodiscard]] native_exit_code_type native_exit_code() const {
        return handle_.child_ ? handle_.child_->native.load() : detached_;
    }

    // The process lives on, also beyond this program.
    handle_type detach() {
        detached_ = native_exit_code();
        return std::move(handle_);
    }

    // void(error_code, int): the exit code. Destroying the process cancels it.
    template <class Token = typename boost::asio::default_completion_token<Executor>::type>
    auto async_wait(Token&& token = Token()) {
        return handle_.template async_wait_for<void(error_code, int)>(detail::tells_exit_code(),
                                                                      token);
    }

private:
    template <class>
    friend class basic_process;

    template <class Wide>
    static std::vector<wstring_view> as_wide(std::initializer_list<Wide> args) {
        return {args.begin(), args.end()};
    }

    template <class Args, class... Inits>
    static handle_type started(executor_type e, const filesystem::path& exe, Args&& args,
                               Inits&... inits) {
        auto p = detail::spawn(exe, std::forward<Args>(args), inits...);
        if (!p) throw spawn_error(p.error());
        return handle_type(std::move(e), std::make_shared<detail::child>(std::move(*p)));
    }

    handle_type handle_;
    native_exit_code_type detached_ = detail::k_still_active;
};

using process = basic_process<>;

// In the place of Boost's launchers, which fork.
struct forkserver_launcher {
    template <detail::executor_type Executor, class Args, class... Inits>
    basic_process<Executor> operator()(Executor e, error_code& ec, const filesystem::path& exe,
                                       Args&& args, Inits&&... inits) {
        auto p = detail::spawn(exe, std::forward<Args>(args), inits...);
        ec = p ? error_code() : make_error_code(p.error());
        if (!p) return basic_process<Executor>(std::move(e));
        return basic_process<Executor>(basic_process_handle<Executor>(
            std::move(e), std::make_shared<detail::child>(std::move(*p))));
    }
    template <detail::executor_type Executor, class Args, class... Inits>
    basic_process<Executor> operator()(Executor e, const filesystem::path& exe, Args&& args,
                                       Inits&&... inits) {
        return basic_process<Executor>(std::move(e), exe, std::forward<Args>(args),
                                       std::forward<Inits>(inits)...);
    }
    template <detail::context_type Context, class Args, class... Inits>
    auto operator()(Context& context, error_code& ec, const filesystem::path& exe, Args&& args,
                    Inits&&... inits) {
        return (*this)(context.get_executor(), ec, exe, std::forward<Args>(args),
                       std::forward<Inits>(inits)...);
    }
    template <detail::context_type Context, class Args, class... Inits>
    auto operator()(Context& context, const filesystem::path& exe, Args&& args, Inits&&... inits) {
        return (*this)(context.get_executor(), exe, std::forward<Args>(args),
                       std::forward<Inits>(inits)...);
    }
};
using default_process_launcher = forkserver_launcher;

}  // namespace cleanfork::boost_process
