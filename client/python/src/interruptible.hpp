// Requests that let go of the GIL, and return for Python's signal handlers.
//
// A handler that raises (KeyboardInterrupt) ends the wait: a spawn that nobody waits
// for is taken back, as at a deadline.
#pragma once

#include "client/python/src/bind_convert.hpp"
#include "client/python/src/bind_errors.hpp"
#include "client/python/src/gil.hpp"
#include "client/src/requests/blocking_call.hpp"

namespace cleanfork::python {

// Has the main thread run the handlers that are due.
class signal_check final : public detail::interruption {
public:
    // True when one raised. Without the GIL.
    bool is_due() override {
        if (raised_) return true;  // what it raised is set already
        raised_ = !handle_signals();
        return raised_;
    }
    // Throws what one raised. With the GIL.
    void rethrow() const {
        if (raised_) throw py::error_already_set();
    }

private:
    bool raised_ = false;
};

// detail::ask() of a client that is connected. With the GIL held. Throws
// py::error_already_set for a request that cannot be made, and when interrupted. The
// client may be closed meanwhile.
template <detail::request_kind R, class... What>
result<typename R::value> try_ask(const std::shared_ptr<detail::connection>& c,
                                  const std::optional<double>& seconds, const What&... what) {
    const detail::deadline d = detail::deadline_after(to_timeout(seconds));
    detail::outgoing m;
    auto request = value_or_raise(R::fill(m, d, what...));
    signal_check signals;
    std::optional<result<typename R::value>> outcome;
    {
        const without_gil others_run;
        outcome.emplace(
            detail::await_reply(*c, m, std::move(request), d, {.interrupted = &signals}));
    }
    signals.rethrow();
    return std::move(*outcome);
}

template <detail::request_kind R, class... What>
typename R::value ask(const std::shared_ptr<detail::connection>& c,
                      const std::optional<double>& seconds, const What&... what) {
    return value_or_raise(try_ask<R>(c, seconds, what...));
}

}  // namespace cleanfork::python
