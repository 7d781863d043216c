// Requests as calls: one shape for all, blocking and asynchronous.
//
// A *conversion* is the part that differs: what a reply becomes, what is done
// with one that came too late, and what a timeout is called.
#pragma once

#include "client/src/connection/connection.hpp"
#include "client/src/connection/convert.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::detail {

inline failure unexpected_reply() {
    return ipc::fail(step::protocol, EBADMSG, "forkserver", "it sent a reply of another kind");
}

// A spawn nobody waits for any more leaves no process behind.
inline void kill_unwanted(const result<process>& p) noexcept {
    if (p) (void)connection::of(*p)->signal(SIGKILL);
}

struct to_process {
    using value = process;
    static constexpr bool cancellable = true;  // while it is queued
    parent_ends ends;

    result<process> operator()(connection& c, reply&& r) {
        if (!r.message.has_spawn()) return unexpected_reply();
        return c.adopt(r.message.spawn(), r.descriptors, std::move(ends));
    }
    static void discard(result<process>& p) noexcept { kill_unwanted(p); }
    static failure expired() {
        return ipc::fail(step::queue, ETIMEDOUT, {}, "the spawn was not done in time");
    }
};

struct to_batch {
    using value = std::vector<result<process>>;
    static constexpr bool cancellable = true;
    std::vector<result<parent_ends>> ends;  // or why the item was not sent

    result<value> operator()(connection& c, reply&& r);
    static void discard(result<value>& all) noexcept {
        if (all)
            for (const result<process>& p : *all) kill_unwanted(p);
    }
    static failure expired() { return to_process::expired(); }
};

struct to_children {
    using value = std::vector<child_info>;
    static constexpr bool cancellable = false;
    result<value> operator()(connection&, reply&& r) const {
        if (!r.message.has_list()) return unexpected_reply();
        return children_of(r.message.list());
    }
    static void discard(result<value>&) noexcept {}
    static failure expired() {
        return ipc::fail(step::connect, ETIMEDOUT, "forkserver", "no answer in time");
    }
};

struct to_stats {
    using value = server_stats;
    static constexpr bool cancellable = false;
    result<value> operator()(connection&, reply&& r) const {
        if (!r.message.has_stats()) return unexpected_reply();
        return stats_of(r.message.stats());
    }
    static void discard(result<value>&) noexcept {}
    static failure expired() { return to_children::expired(); }
};

struct to_wait_result {
    using value = wait_result;
    static constexpr bool cancellable = true;
    result<value> operator()(connection&, reply&& r) const {
        if (!r.message.has_wait()) return unexpected_reply();
        return end_of(r.message.wait().exit());
    }
    static void discard(result<value>&) noexcept {}
    static failure expired() {
        return ipc::fail(step::wait, ETIMEDOUT, {}, "the child still runs");
    }
};

// signal, shutdown, update_base, remove_template
struct to_nothing {
    using value = void;
    static constexpr bool cancellable = false;
    result<void> operator()(connection&, reply&& r) const {
        if (r.message.has_signal() || r.message.has_shutdown() || r.message.has_update_base() ||
            r.message.has_remove_template())
            return {};
        return unexpected_reply();
    }
    static void discard(result<void>&) noexcept {}
    static failure expired() { return to_children::expired(); }
};

struct to_server_info {
    using value = server_info;
    static constexpr bool cancellable = false;
    result<value> operator()(connection&, reply&& r) const;
    static void discard(result<value>&) noexcept {}
    static failure expired() {
        return ipc::fail(step::hello, ETIMEDOUT, "forkserver", "no greeting in time");
    }
};

// ---- blocking --------------------------------------------------------------

template <class Conversion>
class blocking_operation final : public operation {
public:
    using value = typename Conversion::value;
    explicit blocking_operation(Conversion c) : convert_(std::move(c)) {}

    void finish(connection& c, result<reply>&& r) override {
        result<value> v = r ? convert_(c, std::move(*r)) : result<value>(std::move(r).error());
        {
            const std::lock_guard lock(c.mutex());
            if (!abandoned_) {
                outcome.emplace(std::move(v));
                waiting.set_ready();
                return;
            }
        }
        Conversion::discard(v);
    }
    void abandon() noexcept { abandoned_ = true; }  // with the mutex held

    // Of the waiting thread; protected by the connection's mutex until ready.
    waiter waiting;
    std::optional<result<value>> outcome;

private:
    Conversion convert_;
    bool abandoned_ = false;
};

// After the deadline: a request that was still queued is cancelled; the answer
// to that comes at once from a forkserver that is well, so it is waited for
// briefly. True: the outcome is there after all. False: an answer later than
// that is dealt with by whoever reads it.
template <class Conversion>
bool settle(connection& c, std::uint64_t id,
            const std::shared_ptr<blocking_operation<Conversion>>& op) {
    if constexpr (Conversion::cancellable) c.request_cancel(id);
    std::unique_lock lock(c.mutex());
    if constexpr (Conversion::cancellable)
        c.await(lock, op->waiting, steady::now() + std::chrono::milliseconds(100));
    if (!op->waiting.ready) op->abandon();
    return op->waiting.ready;
}

template <class Conversion>
result<typename Conversion::value> expire(
    connection& c, std::uint64_t id, const std::shared_ptr<blocking_operation<Conversion>>& op) {
    if (!settle(c, id, op)) return Conversion::expired();
    const bool cancelled = !*op->outcome && (op->outcome->error().error_number == ECANCELED ||
                                             op->outcome->error().error_number == ETIMEDOUT);
    if (!*op->outcome && !cancelled) return std::move(*op->outcome);
    Conversion::discard(*op->outcome);
    return Conversion::expired();
}

template <class Conversion>
result<typename Conversion::value> call(connection& c, outgoing& m, Conversion convert,
                                        const deadline& d) {
    const auto op = std::make_shared<blocking_operation<Conversion>>(std::move(convert));
    const std::uint64_t id = c.next_id();
    if (auto sent = c.submit(id, m, op); !sent) return sent.error();
    if (c.sends_blocked()) c.flush_blocking(d);
    {
        std::unique_lock lock(c.mutex());
        c.await(lock, op->waiting, d);
        if (op->waiting.ready) return std::move(*op->outcome);
    }
    return expire(c, id, op);
}

void fill_signal(outgoing& m, std::uint64_t child, int number, signal_target target);

// Signals the child's process group: by the forkserver, which knows whether
// there is one; by the pidfd when the forkserver was lost.
result<void> signal_group(child_state& child, int number, const deadline& d);

// ---- asynchronous ----------------------------------------------------------

template <class Conversion, class Handler>
class async_operation final : public operation {
public:
    async_operation(Conversion c, const any_io_executor& executor, Handler&& h)
        : convert_(std::move(c)), done_(executor, std::move(h)) {}
    [[nodiscard]] const any_io_executor* io() const noexcept override { return &done_.io(); }

    void finish(connection& c, result<reply>&& r) override {
        deliver(std::move(done_), r ? convert_(c, std::move(*r))
                                    : result<typename Conversion::value>(std::move(r).error()));
    }
    static void deliver(completion<Handler>&& done, result<typename Conversion::value>&& v) {
        using value = typename Conversion::value;
        if constexpr (std::is_void_v<value>)
            std::move(done)(v ? std::exception_ptr() : exception_of(v.error()));
        else if (v)
            std::move(done)(std::exception_ptr(), std::move(*v));
        else
            std::move(done)(exception_of(v.error()), value());
    }

private:
    Conversion convert_;
    completion<Handler> done_;
};

// Takes the place of an operation that was withdrawn.
template <class Conversion>
class discarding_operation final : public operation {
    void finish(connection& c, result<reply>&& r) override {
        if (!r) return;
        Conversion convert;
        auto v = convert(c, std::move(*r));
        Conversion::discard(v);
    }
};

// Completes `h` with `f`, for a request that could not be made.
template <class Conversion, class Handler>
void refuse(const any_io_executor& io, Handler&& h, failure f) {
    async_operation<Conversion, std::decay_t<Handler>>::deliver(
        completion<std::decay_t<Handler>>(io, std::move(h)), std::move(f));
}

// What emitting the handler's cancellation slot does. A spawn completes by the
// forkserver's answer to it, other requests at once.
template <class Conversion, class Handler>
void bind_cancellation(connection& c, std::uint64_t id, const Handler& h) {
    auto slot = h.get_cancellation_slot();
    if (!slot.is_connected()) return;
    slot.assign([weak = c.weak_from_this(), id](boost::asio::cancellation_type t) {
        const auto self = weak.lock();
        if (!self || t == boost::asio::cancellation_type::none) return;
        if constexpr (Conversion::cancellable) self->request_cancel(id);
        if constexpr (!std::is_same_v<Conversion, to_process> &&
                      !std::is_same_v<Conversion, to_batch>)
            self->withdraw(id,
                           ipc::fail(step::connect, ECANCELED, {}, "the operation was cancelled"),
                           std::make_shared<discarding_operation<Conversion>>());
    });
}

template <class Conversion, class Handler>
void start(connection& c, outgoing& m, Conversion convert, Handler&& h) {
    const any_io_executor io = io_executor_for(c.executor(), h);
    if (!io) return refuse<Conversion>(io, std::move(h), no_executor());
    const std::uint64_t id = c.next_id();
    bind_cancellation<Conversion>(c, id, h);
    const auto op = std::make_shared<async_operation<Conversion, std::decay_t<Handler>>>(
        std::move(convert), io, std::move(h));
    if (auto sent = c.submit(id, m, op); !sent) op->finish(c, sent.error());
}

}  // namespace cleanfork::detail
