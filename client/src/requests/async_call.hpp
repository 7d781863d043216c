// Requests as asynchronous operations.
#pragma once

#include "client/src/requests/request.hpp"

namespace cleanfork::detail {

template <class Value, class Handler>
void deliver(completion<Handler>&& done, result<Value>&& v) {
    if constexpr (std::is_void_v<Value>)
        std::move(done)(v ? std::exception_ptr() : exception_of(v.error()));
    else if (v)
        std::move(done)(std::exception_ptr(), std::move(*v));
    else
        std::move(done)(exception_of(v.error()), Value());
}

template <request_kind R, class Handler>
class async_operation final : public operation {
public:
    using value = typename R::value;
    async_operation(R request, const any_io_executor& executor, Handler&& h)
        : request_(std::move(request)), done_(executor, std::move(h)) {}
    [[nodiscard]] const any_io_executor* io() const noexcept override { return &done_.io(); }

    void finish(connection& c, result<reply>&& r) override {
        deliver<value>(std::move(done_),
                       r ? request_.convert(c, std::move(*r)) : result<value>(r.error()));
    }

private:
    R request_;
    completion<Handler> done_;
};

// Completes `h` with `f`, for a request that could not be made.
template <class Value, class Handler>
void refuse(const any_io_executor& io, Handler&& h, failure f) {
    deliver<Value>(completion<std::decay_t<Handler>>(io, std::move(h)), std::move(f));
}

// What emitting the handler's cancellation slot does. The operation completes at once,
// or by the forkserver's answer.
template <request_kind R, class Handler>
void bind_cancellation(connection& c, ipc::request_id id, const Handler& h) {
    auto slot = h.get_cancellation_slot();
    if (!slot.is_connected()) return;
    slot.assign([weak = c.weak_from_this(), id](boost::asio::cancellation_type t) {
        const auto self = weak.lock();
        if (!self || t == boost::asio::cancellation_type::none) return;
        if constexpr (R::cancelled != cancellation::ignored) self->request_cancel(id);
        if constexpr (R::cancelled != cancellation::answered)
            self->withdraw(id,
                           ipc::fail(step::connect, ECANCELED, {}, "the operation was cancelled"));
    });
}

// Sends what was filled in; `h` is told the outcome.
template <request_kind R, class Handler>
void submit(connection& c, outgoing& m, R request, Handler&& h) {
    const any_io_executor io = io_executor_for(c.executor(), h);
    if (!io) return refuse<typename R::value>(io, std::move(h), no_executor());
    const ipc::request_id id = c.next_id();
    bind_cancellation<R>(c, id, h);
    const auto op = std::make_shared<async_operation<R, std::decay_t<Handler>>>(std::move(request),
                                                                                io, std::move(h));
    if (auto sent = c.submit(id, m, op); !sent) op->finish(c, sent.error());
}

// The whole of a request, of a client that may not be connected.
template <request_kind R, class Handler, class... What>
void start(const std::shared_ptr<connection>& c, Handler&& h, const What&... what) {
    outgoing m;
    auto request = c ? R::fill(m, {}, what...) : not_connected();
    if (request) return submit(*c, m, std::move(*request), std::forward<Handler>(h));
    const any_io_executor io = io_executor_for(c ? c->executor() : any_io_executor(), h);
    refuse<typename R::value>(io, std::move(h), request.error());
}

}  // namespace cleanfork::detail
