// What every kind of request has. One struct a kind, the same for blocking,
// asynchronous and Python use; a new request is one more struct:
//
//     struct stats_request : plain_request<server_stats> {
//         static result<stats_request> fill(outgoing& m, const deadline& d);
//         static result<value> convert(connection& c, reply&& r);
//     };
//
// fill() writes the message, in front of what is asked (further arguments), and makes the
// request: what is kept of it until the reply. The rest is below.
#pragma once

#include "client/src/connection/connection.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::detail {

// What is done about a request that nobody waits for any more.
enum class cancellation {
    ignored,   // the forkserver answers soon; that is ignored
    told,      // it waits in the forkserver, which is told to drop it
    answered,  // the same; but what is done may not be undone: its answer is awaited
};

template <class R>
concept request_kind = requires(R r, connection& c, reply&& answer,
                                result<typename R::value>& late) {
    { r.convert(c, std::move(answer)) } -> std::same_as<result<typename R::value>>;
    // What is done with an answer that came too late.
    R::discard(late);
    // What a timeout is called.
    { R::expired() } -> std::same_as<failure>;
    requires std::same_as<decltype(R::cancelled), const cancellation>;
};

inline failure unexpected_reply() {
    return ipc::fail(step::protocol, EBADMSG, "forkserver", "it sent a reply of another kind");
}

inline failure not_connected() {
    return ipc::fail(step::connect, ENOTCONN, "client",
                     "this client is not connected: launch() or connect() gives one that is");
}

// One that the forkserver answers at once.
template <class Value>
struct plain_request {
    using value = Value;
    static constexpr cancellation cancelled = cancellation::ignored;
    static void discard(result<Value>&) noexcept {}
    static failure expired() {
        return ipc::fail(step::connect, ETIMEDOUT, "forkserver", "no answer in time");
    }
};

// Sends a request whose outcome does not matter.
template <request_kind R, class... What>
result<void> tell(connection& c, const What&... what) {
    outgoing m;
    if (auto request = R::fill(m, {}, what...); !request) return request.error();
    return c.submit(c.next_id(), m, std::make_shared<ignoring_operation>());
}

}  // namespace cleanfork::detail
