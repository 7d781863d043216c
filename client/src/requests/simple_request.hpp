// Requests without more than a body, of a client that may not be connected.
#pragma once

#include "client/src/requests/spawn.hpp"

namespace cleanfork::detail {

template <class Conversion>
result<typename Conversion::value> simple_call(const std::shared_ptr<connection>& c, outgoing& m,
                                               const timeout& t, Conversion convert = {}) {
    if (!c) return not_connected();
    return call(*c, m, std::move(convert), deadline_after(t));
}

template <class Conversion, class Handler>
void simple_start(const std::shared_ptr<connection>& c, outgoing& m, Handler&& h,
                  Conversion convert = {}) {
    if (!c) return refuse<Conversion>(io_executor_for({}, h), std::move(h), not_connected());
    start(*c, m, std::move(convert), std::move(h));
}

}  // namespace cleanfork::detail
