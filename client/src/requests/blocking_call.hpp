// Requests as blocking calls.
#pragma once

#include "client/src/connection/blocking.hpp"
#include "client/src/requests/request.hpp"

namespace cleanfork::detail {

template <request_kind R>
class blocking_operation final : public operation {
public:
    using value = typename R::value;
    explicit blocking_operation(R request) : request_(std::move(request)) {}

    void finish(connection& c, result<reply>&& r) override {
        result<value> v = r ? request_.convert(c, std::move(*r)) : result<value>(r.error());
        {
            const auto held = c.lock();
            shared& s = shared_(held);
            if (!s.abandoned) {
                s.outcome.emplace(std::move(v));
                s.waiting.set_ready(held);
                return;
            }
        }
        R::discard(v);
    }

    // Of the thread that waits: it is there as long as the operation.
    waiter& waiting(const tables_lock& held) { return shared_(held).waiting; }
    // Once that is ready.
    result<value> take(const tables_lock& held) { return std::move(*shared_(held).outcome); }
    // What comes from now on is discarded by whoever reads it.
    void abandon(const tables_lock& held) { shared_(held).abandoned = true; }

private:
    struct shared {
        waiter waiting;
        std::optional<result<value>> outcome;
        bool abandoned = false;
    };
    R request_;
    locked_by<shared, connection_tables> shared_;
};

// One request from its sending to its outcome, for one thread.
template <request_kind R>
class blocking_call {
public:
    using value = typename R::value;
    blocking_call(connection& c, R request)
        : connection_(c),
          id_(c.next_id()),
          operation_(std::make_shared<blocking_operation<R>>(std::move(request))) {}

    result<void> send(outgoing& m) { return connection_.submit(id_, m, operation_); }

    // Until the reply has come.
    blocked wait(const deadline& d, const meanwhile& work) {
        const blocked sent = block_until_sent(connection_, d, work.interrupted);
        if (sent == blocked::interrupted) return sent;
        return block(connection_, waiting(), d, work);
    }
    // The outcome, when wait() said `ready`.
    result<value> take() { return operation_->take(connection_.lock()); }

    // The outcome, when it did not: mostly that it has expired. One that was still queued is
    // cancelled; the answer to that comes at once from a forkserver that is well, so it is
    // waited for briefly. An answer that is later still is discarded by whoever reads it.
    result<value> late() {
        if constexpr (R::cancelled != cancellation::ignored) {
            connection_.request_cancel(id_);
            block(connection_, waiting(), steady::now() + std::chrono::milliseconds(100));
        }
        const auto held = connection_.lock();
        if (!operation_->waiting(held).ready(held)) {
            operation_->abandon(held);
            return R::expired();
        }
        auto outcome = operation_->take(held);
        if (!outcome && (outcome.error().error_number == ECANCELED ||
                         outcome.error().error_number == ETIMEDOUT))
            return R::expired();
        return outcome;
    }

private:
    waiter& waiting() { return operation_->waiting(connection_.lock()); }

    connection& connection_;
    const ipc::request_id id_;
    const std::shared_ptr<blocking_operation<R>> operation_;
};

// Sends what was filled in, and blocks for the reply.
template <request_kind R>
result<typename R::value> await_reply(connection& c, outgoing& m, R request, const deadline& d,
                                      const meanwhile& work = {}) {
    blocking_call<R> call(c, std::move(request));
    if (auto sent = call.send(m); !sent) return sent.error();
    if (call.wait(d, work) == blocked::ready) return call.take();
    auto late = call.late();
    if (!late) return late;
    R::discard(late);
    return R::expired();
}

// The whole of a request, of a client that may not be connected.
template <request_kind R, class... What>
result<typename R::value> ask(const std::shared_ptr<connection>& c, const timeout& t,
                              const What&... what) {
    if (!c) return not_connected();
    const deadline d = deadline_after(t);
    outgoing m;
    auto request = R::fill(m, d, what...);
    if (!request) return request.error();
    return await_reply(*c, m, std::move(*request), d);
}

}  // namespace cleanfork::detail
