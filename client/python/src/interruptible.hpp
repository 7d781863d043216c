// Blocking calls that let go of the GIL, and return for Python's signal handlers.
//
// The library goes on after EINTR, so a wait is made of slices; between two of
// them the main thread runs the handlers that are due. A handler that raises
// (KeyboardInterrupt) ends the call: a spawn that nobody waits for is taken back.
#pragma once

#include "client/python/src/bind_errors.hpp"
#include "client/python/src/gil.hpp"
#include "client/src/requests/operations.hpp"

namespace cleanfork::python {

constexpr std::chrono::milliseconds k_slice{20};

// A plan for the time until `d`, but no longer than a slice.
inline detail::deadline slice_until(const detail::deadline& d) {
    const auto soon = detail::steady::now() + k_slice;
    return d ? std::min(*d, soon) : soon;
}

// detail::call(), in slices. With the GIL held; throws py::error_already_set.
template <class Conversion>
result<typename Conversion::value> call(detail::connection& c, detail::outgoing& m,
                                        Conversion convert, const detail::deadline& d) {
    std::optional<result<typename Conversion::value>> outcome;
    bool interrupted = false;
    {
        const without_gil others_run;
        const auto op =
            std::make_shared<detail::blocking_operation<Conversion>>(std::move(convert));
        const std::uint64_t id = c.next_id();
        if (auto sent = c.submit(id, m, op); !sent) return sent.error();
        while (!outcome) {
            if (c.sends_blocked()) c.flush_blocking(slice_until(d));
            {
                std::unique_lock lock(c.mutex());
                c.await(lock, op->waiting, slice_until(d));
                if (op->waiting.ready) {
                    outcome.emplace(std::move(*op->outcome));
                    break;
                }
            }
            interrupted = !handle_signals();
            if (interrupted || detail::passed(d)) outcome.emplace(detail::expire(c, id, op));
        }
        // A spawn that came in the last moment is unwanted too.
        if (interrupted && *outcome) Conversion::discard(*outcome);
    }
    if (interrupted) throw py::error_already_set();
    return std::move(*outcome);
}

}  // namespace cleanfork::python
