// How an asynchronous operation reaches its handler.
#pragma once

#include <boost/asio/any_completion_executor.hpp>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/prefer.hpp>
#include <cleanfork/error.hpp>
#include <exception>
#include <tuple>
#include <utility>

namespace cleanfork::detail {

using boost::asio::any_completion_executor;
using boost::asio::any_io_executor;

// The I/O executor behind a handler's associated one; empty when it is of a kind
// that cannot watch descriptors.
any_io_executor io_executor_of(const any_completion_executor& e);

// `preferred`, or the one associated with the handler when that is empty.
template <class Handler>
any_io_executor io_executor_for(const any_io_executor& preferred, const Handler& handler) {
    if (preferred) return preferred;
    return io_executor_of(boost::asio::get_associated_executor(handler, any_completion_executor()));
}

// A handler with the executors it needs, which are kept busy until it ran.
// The call goes through the I/O executor first: the handler's own, being type-erased, cannot
// promise that it does not run inside the caller, which may hold the reader's role.
template <class Handler>
class completion {
public:
    completion(const any_io_executor& io, Handler&& handler)
        : io_(busy(io)),
          own_(busy(boost::asio::get_associated_executor(handler, any_completion_executor()))),
          handler_(std::move(handler)) {}

    // Empty when there is none.
    [[nodiscard]] const any_io_executor& io() const noexcept { return io_; }

    // Without an I/O executor there is nowhere to go but the calling thread:
    // only the error that says so is delivered like that.
    template <class... Args>
    void operator()(Args... args) && {
        auto call = [own = std::move(own_), handler = std::move(handler_),
                     values = std::make_tuple(std::move(args)...)]() mutable {
            auto run = [handler = std::move(handler), values = std::move(values)]() mutable {
                std::apply(std::move(handler), std::move(values));
            };
            if (own)
                boost::asio::dispatch(own, std::move(run));
            else
                run();
        };
        if (any_io_executor io = std::move(io_))
            boost::asio::post(io, std::move(call));
        else
            call();
    }

private:
    template <class Executor>
    static Executor busy(const Executor& e) {
        if (!e) return e;
        return boost::asio::prefer(e, boost::asio::execution::outstanding_work.tracked);
    }

    any_io_executor io_;
    any_completion_executor own_;  // empty when the handler has none: it runs on io_
    Handler handler_;
};

inline std::exception_ptr exception_of(failure f) {
    return std::make_exception_ptr(spawn_error(std::move(f)));
}

// What a handler without a usable executor is told.
failure no_executor();

}  // namespace cleanfork::detail
