// execute() and async_execute(), as in Boost.Process v2.
#pragma once

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_state.hpp>
#include <cleanfork/detail/boost_process_process.hpp>

namespace cleanfork::boost_process {

// Waits for the end; the result is the exit code.
template <class Executor>
int execute(basic_process<Executor> p) {
    return p.wait();
}
template <class Executor>
int execute(basic_process<Executor> p, error_code& ec) {
    return p.wait(ec);
}

namespace detail {

template <class Executor>
struct execution {
    std::unique_ptr<basic_process<Executor>> process;

    struct cancel {
        basic_process<Executor>* process;
        void operator()(asio::cancellation_type type) const {
            const auto asked = [type](asio::cancellation_type t) {
                return (type & t) != asio::cancellation_type::none;
            };
            error_code ignored;
            if (asked(asio::cancellation_type::total))
                process->interrupt(ignored);
            else if (asked(asio::cancellation_type::partial))
                process->request_exit(ignored);
            else if (asked(asio::cancellation_type::terminal))
                process->terminate(ignored);
        }
    };

    template <class Self>
    void operator()(Self& self) {
        // Boost 1.81 leaves the filter at `terminal`, so that the two mild ways never work.
        self.reset_cancellation_state(asio::enable_total_cancellation());
        basic_process<Executor>& p = *process;
        if (auto slot = self.get_cancellation_state().slot(); slot.is_connected())
            slot.template emplace<cancel>(cancel{&p});
        // The child's end completes the wait; cancelling is signalling the child.
        p.async_wait(asio::bind_cancellation_slot(asio::cancellation_slot(), std::move(self)));
    }
    template <class Self>
    void operator()(Self& self, error_code ec, int code) {
        self.get_cancellation_state().slot().clear();
        self.complete(ec, code);
    }
};

}  // namespace detail

// void(error_code, int). Cancellation: total interrupts the child, partial asks
// it to exit, terminal kills it; the operation completes with its end.
template <class Executor = boost::asio::any_io_executor,
          class Token = typename boost::asio::default_completion_token<Executor>::type>
auto async_execute(basic_process<Executor> p, Token&& token = Token()) {
    auto e = p.get_executor();
    return boost::asio::async_compose<Token, void(error_code, int)>(
        detail::execution<Executor>{std::make_unique<basic_process<Executor>>(std::move(p))}, token,
        e);
}

}  // namespace cleanfork::boost_process
