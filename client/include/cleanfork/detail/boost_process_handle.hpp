// A process without an owner: basic_process_handle of Boost.Process v2.
#pragma once

#include <fcntl.h>
#include <poll.h>

#include <atomic>
#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/compose.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/execution_context.hpp>
#include <boost/asio/posix/basic_stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <chrono>
#include <cleanfork/detail/boost_process_names.hpp>
#include <cleanfork/detail/owning_process.hpp>
#include <concepts>
#include <memory>
#include <type_traits>

namespace cleanfork::boost_process {

namespace detail {

namespace asio = boost::asio;
inline constexpr native_exit_code_type k_still_active = boost::process::v2::detail::still_active;

// Shared by a process and its pending waits, so that neither moving nor
// destroying the process pulls the ground from under a wait.
struct child {
    explicit child(cleanfork::process p) : process(std::move(p)) {}

    const cleanfork::process process;
    const cleanfork::detail::owning_process owner;
    std::atomic<native_exit_code_type> native{k_still_active};

    // As wait(2) would tell it. `unknown` is an error: no number may stand for it.
    bool learn(const std::optional<exit_status>& s, error_code& ec) {
        if (!s) return false;
        if (s->is_exited())
            native = (s->code() & 0xff) << 8;
        else if (s->is_signaled())
            native = s->signal() | (s->core_dumped() ? 0x80 : 0);
        else
            ec = make_error_code(unknown(*s));
        return true;
    }
    [[nodiscard]] failure unknown(const exit_status& s) const {
        return {step::wait, ECHILD, "process " + std::to_string(process.id()), s.why()};
    }

    // True once the status is known. The forkserver reaps in the moment the
    // child ends, so that this moment is worth waiting for.
    bool ended(error_code& ec) {
        if (native != k_still_active || learn(process.status(), ec)) return true;
        if (process.running()) return false;
        return learn(process.wait_for(std::chrono::milliseconds(2)), ec);
    }

    void signal(int number, error_code& ec) const {
        process.signal(number, ec);
        // Boost's child stays a zombie until it is waited for, and takes signals.
        if (errno_of(ec) == ESRCH && native == k_still_active) ec.clear();
    }

    // Does not depend on the forkserver: it is the kernel that tells the end.
    void kill_and_wait() const noexcept {
        if (process.native_handle() < 0) return;
        error_code ec;
        process.signal(SIGKILL, ec);
        if (ec) return;  // it has ended, or is another user's by now
        pollfd p{process.native_handle(), POLLIN, 0};
        while (::poll(&p, 1, -1) < 0) {
        }
    }
};

// Sees the end of a child on the executor of its process: whatever else uses
// the connection to the forkserver, and wherever that is watched.
template <class Executor>
struct child_watch {
    explicit child_watch(const Executor& e) : descriptor(e) {}

    const cleanfork::detail::owning_process owner;
    asio::posix::basic_stream_descriptor<Executor> descriptor;

    void open(int pidfd, error_code& ec) {
        if (descriptor.is_open()) return;
        unique_fd copy(::fcntl(pidfd, F_DUPFD_CLOEXEC, 3));
        if (!copy) {
            ec.assign(errno, boost::system::system_category());
            return;
        }
        descriptor.assign(copy.get(), ec);
        if (!ec) (void)copy.release();
    }
};

// How a wait is completed: with what wait(2) would tell, with the exit code in it, or
// with nothing but the error, and what wait(2) would tell in the caller's variable.
struct tells_status {
    template <class Self>
    void operator()(Self& self, error_code ec, native_exit_code_type native) const {
        self.complete(ec, native);
    }
};
struct tells_exit_code {
    template <class Self>
    void operator()(Self& self, error_code ec, native_exit_code_type native) const {
        self.complete(ec, evaluate_exit_code(native));
    }
};
struct fills_status {
    native_exit_code_type* into;
    template <class Self>
    void operator()(Self& self, error_code ec, native_exit_code_type native) const {
        if (!ec) *into = native;
        self.complete(ec);
    }
};

template <class Executor, class Tell>
class child_wait {
public:
    child_wait(const Executor& e, std::shared_ptr<child> c,
               std::shared_ptr<child_watch<Executor>> w, Tell tell)
        : executor_(e), child_(std::move(c)), watch_(std::move(w)), tell_(tell) {}

    template <class Self>
    void operator()(Self& self, error_code ec = {}) {
        if (stage_ == stage::start) return start(self);
        if (stage_ == stage::finished) return complete(self, ec_);
        if (ec || child_->ended(ec)) return complete(self, ec);
        // Asio may wake without cause, as in a context that is run again.
        if (child_->process.running()) return watch(self);
        // Ended, but not reaped: the forkserver is busy, or was lost and init is.
        if (!timer_) timer_ = std::make_unique<timer>(executor_);
        timer& t = *timer_;  // stays where it is when the operation moves
        t.expires_after(std::chrono::milliseconds(5));
        t.async_wait(std::move(self));
    }

private:
    using clock = std::chrono::steady_clock;
    using timer = asio::basic_waitable_timer<clock, asio::wait_traits<clock>, Executor>;
    enum class stage { start, waiting, finished };

    template <class Self>
    void start(Self& self) {
        stage_ = stage::waiting;
        bool known = false;
        if (!child_)
            ec_ = asio::error::bad_descriptor;
        else if (!(known = child_->ended(ec_)))
            watch_->open(child_->process.native_handle(), ec_);
        if (ec_ || known) {
            stage_ = stage::finished;
            const Executor e = executor_;
            return asio::post(e, std::move(self));
        }
        watch(self);
    }

    template <class Self>
    void watch(Self& self) {
        auto& descriptor = watch_->descriptor;  // stays where it is, as the timer
        descriptor.async_wait(asio::posix::descriptor_base::wait_read, std::move(self));
    }

    template <class Self>
    void complete(Self& self, error_code ec) {
        const native_exit_code_type native = child_ ? child_->native.load() : k_still_active;
        tell_(self, ec, native);
    }

    Executor executor_;
    std::shared_ptr<child> child_;
    std::shared_ptr<child_watch<Executor>> watch_;
    Tell tell_;
    std::unique_ptr<timer> timer_;
    stage stage_ = stage::start;
    error_code ec_;
};

template <class Context>
concept context_type = std::is_convertible_v<Context&, asio::execution_context&>;

// What the throwing overloads do with what the others report.
template <class Call>
auto throwing(step s, Call&& call) {
    error_code ec;
    if constexpr (std::is_void_v<decltype(call(ec))>) {
        call(ec);
        if (ec) throw spawn_error(as_failure(ec, s));
    } else {
        auto r = call(ec);
        if (ec) throw spawn_error(as_failure(ec, s));
        return r;
    }
}

// Where Boost takes over a process by its pid.
template <class... Pid>
constexpr void refuse_foreign_pid() {
    static_assert(sizeof...(Pid) == 0,
                  "cleanfork::boost_process makes no object of a pid: only the forkserver that "
                  "started a process knows its status, and a pid may be reused. Keep the process "
                  "or the handle that detach() gives; for a child that the program forked itself, "
                  "use boost::process::v2::process.");
}

}  // namespace detail

// Does not end the process when it is destroyed. Pending waits are cancelled.
template <class Executor = boost::asio::any_io_executor>
class basic_process_handle {
public:
    using executor_type = Executor;
    using native_handle_type = int;
    template <class Executor1>
    struct rebind_executor {
        using other = basic_process_handle<Executor1>;
    };

    basic_process_handle() = default;
    explicit basic_process_handle(executor_type e) : executor_(std::move(e)) {}
    template <detail::context_type Context>
    explicit basic_process_handle(Context& context) : executor_(context.get_executor()) {}
    basic_process_handle(executor_type e, std::shared_ptr<detail::child> c)
        : executor_(std::move(e)), child_(std::move(c)) {}
    // Only the forkserver's children have a status to wait for.
    template <class Place, std::same_as<pid_type>... Pid>
    requires(sizeof...(Pid) == 1 || sizeof...(Pid) == 2) basic_process_handle(Place&&, Pid...) {
        detail::refuse_foreign_pid<Pid...>();
    }

    // What was moved from is empty and keeps its executor.
    basic_process_handle(basic_process_handle&& other) noexcept
        : executor_(other.executor_),
          child_(std::move(other.child_)),
          watch_(std::move(other.watch_)) {}
    template <class Executor1>
    basic_process_handle(basic_process_handle<Executor1>&& other)
        : executor_(other.executor_), child_(std::move(other.child_)) {
        other.cancel();
    }
    basic_process_handle& operator=(basic_process_handle&& other) noexcept {
        if (this == &other) return *this;
        cancel();
        executor_ = other.executor_;
        child_ = std::move(other.child_);
        watch_ = std::move(other.watch_);
        return *this;
    }
    ~basic_process_handle() { cancel(); }

    executor_type get_executor() const { return executor_; }
    [[nodiscard]] bool is_open() const noexcept { return child_ != nullptr; }
    [[nodiscard]] pid_type id() const noexcept { return child_ ? child_->process.id() : -1; }
    // The pidfd, borrowed; -1 when the child had ended before the spawn returned.
    [[nodiscard]] native_handle_type native_handle() const noexcept {
        return child_ ? child_->process.native_handle() : -1;
    }

    void wait(native_exit_code_type& status, error_code& ec) {
        ec.clear();
        if (!child_) return;
        const exit_status s = child_->process.wait(ec);
        if (!ec) child_->learn(s, ec);
        if (!ec) status = child_->native;
    }
    void wait(native_exit_code_type& status) {
        if (!child_) return;
        const exit_status s = child_->process.wait();
        error_code ec;
        child_->learn(s, ec);
        if (ec) throw spawn_error(child_->unknown(s));
        status = child_->native;
    }

    // False, with the status, once the child has ended. Does not block.
    bool running(native_exit_code_type& status, error_code& ec) {
        ec.clear();
        if (!child_) return false;
        if (!child_->ended(ec)) return true;
        if (!ec) status = child_->native;
        return false;
    }
    bool running(native_exit_code_type& status) {
        return detail::throwing(step::wait, [&](error_code& ec) { return running(status, ec); });
    }

    void interrupt(error_code& ec) { signal(SIGINT, ec); }
    void request_exit(error_code& ec) { signal(SIGTERM, ec); }
    void suspend(error_code& ec) { signal(SIGSTOP, ec); }
    void resume(error_code& ec) { signal(SIGCONT, ec); }
    void terminate(native_exit_code_type&, error_code& ec) { signal(SIGKILL, ec); }
    void interrupt() { signal(SIGINT); }
    void request_exit() { signal(SIGTERM); }
    void suspend() { signal(SIGSTOP); }
    void resume() { signal(SIGCONT); }
    void terminate(native_exit_code_type&) { signal(SIGKILL); }
    // The child has ended when this returns.
    void terminate_if_running(error_code&) { terminate_if_running(); }
    void terminate_if_running() {
        if (child_) child_->kill_and_wait();
    }

    // void(error_code, native_exit_code_type). The child is not touched by a cancellation.
    template <class Token = typename boost::asio::default_completion_token<Executor>::type>
    requires(!std::same_as<std::remove_cvref_t<Token>, native_exit_code_type>) auto async_wait(
        Token&& token = Token()) {
        return async_wait_for<void(error_code, int)>(detail::tells_status(), token);
    }
    // void(error_code), as in Boost since 1.89. `status` lives until then.
    template <class Token = typename boost::asio::default_completion_token<Executor>::type>
    auto async_wait(native_exit_code_type& status, Token&& token = Token()) {
        return async_wait_for<void(error_code)>(detail::fills_status{&status}, token);
    }

private:
    template <class>
    friend class basic_process_handle;
    template <class>
    friend class basic_process;

    template <class Signature, class Tell, class Token>
    auto async_wait_for(Tell tell, Token& token) {
        if (child_ && !watch_) watch_ = std::make_shared<detail::child_watch<Executor>>(executor_);
        return boost::asio::async_compose<Token, Signature>(
            detail::child_wait<Executor, Tell>(executor_, child_, watch_, tell), token, executor_);
    }

    void signal(int number, error_code& ec) {
        ec.clear();
        if (child_) child_->signal(number, ec);
    }
    void signal(int number) {
        detail::throwing(step::signal, [&](error_code& ec) { signal(number, ec); });
    }
    void cancel() noexcept {
        if (!watch_) return;
        if (!watch_->owner.is_this()) {
            // A forked copy shares the reactor's epoll: it must take nothing out of it.
            new std::shared_ptr(std::move(watch_));
            return;
        }
        error_code ignored;
        watch_->descriptor.close(ignored);
        watch_.reset();
    }

    executor_type executor_;
    std::shared_ptr<detail::child> child_;
    std::shared_ptr<detail::child_watch<Executor>> watch_;
};

using process_handle = basic_process_handle<>;

}  // namespace cleanfork::boost_process
