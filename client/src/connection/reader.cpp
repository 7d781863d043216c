// The reader's role: who reads the socket, and what becomes of what is read.
#include <algorithm>
#include <array>
#include <cassert>

#include "client/src/connection/connection.hpp"
#include "client/src/connection/convert.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::detail {

namespace {

// So many packets are read before an executor's other work gets its turn.
constexpr int k_burst = 64;
// Exits are acknowledged with the next request, or alone when so many are known.
constexpr std::size_t k_acknowledge_at_once = 64;

// One descriptor of our own, and those that the caller waits for too.
class polled {
public:
    polled(int own, std::span<pollfd> also) : also_(also) {
        assert(also.size() <= connection::k_most_also);
        fds_[0] = {own, POLLIN, 0};
        std::copy(also_.begin(), also_.end(), fds_.begin() + 1);
    }
    // Without any lock. What poll_until() returned.
    int until(const deadline& d) { return poll_until({fds_.data(), also_.size() + 1}, d); }
    [[nodiscard]] bool own_ready() const noexcept { return fds_[0].revents != 0; }
    // True when one of the caller's is ready; its revents are set.
    bool also_ready() {
        bool any = false;
        for (std::size_t i = 0; i < also_.size(); ++i) {
            also_[i].revents = fds_[i + 1].revents;
            any = any || also_[i].revents != 0;
        }
        return any;
    }

private:
    std::span<pollfd> also_;
    std::array<pollfd, 1 + connection::k_most_also> fds_{};
};

}  // namespace

connection::awaited connection::await(tables_lock& held, waiter& w, const deadline& d,
                                      std::span<pollfd> also) {
    for (;;) {
        if (w.ready(held)) return awaited::ready;
        if (held->loss || !held->role.take()) {
            const awaited r = follow(held, w, d, also);
            if (!w.take_promotion(held)) {
                if (r != awaited::ready || w.ready(held)) return r;
                continue;  // the role may be free now
            }
            // The role is ours now.
            if (w.ready(held) || r != awaited::ready) {
                leave_role(held);
                return w.ready(held) ? awaited::ready : r;
            }
        }
        const awaited r = lead(held, w, d, also);
        leave_role(held);
        if (r != awaited::ready || w.ready(held)) return r;
        // Lost: whoever found out is about to finish our operation.
    }
}

// Reads until `w` is ready, the deadline, one of `also`, or the loss of the connection (`ready`).
connection::awaited connection::lead(tables_lock& held, waiter& w, const deadline& d,
                                     std::span<pollfd> also) {
    while (!w.ready(held) && !held->loss) {
        polled all(socket_.get(), also);
        int got = 0;
        held.unlocked([&] {
            got = all.until(d);
            if (all.own_ready()) drain(&w);
        });
        const bool other = all.also_ready();
        if (w.ready(held)) break;
        if (other) return awaited::descriptors;
        if (got == 0) return awaited::timed_out;
    }
    return awaited::ready;
}

// Waits for `w`, a promotion (told as `ready`), the deadline or one of `also`.
connection::awaited connection::follow(tables_lock& held, waiter& w, const deadline& d,
                                       std::span<pollfd> also) {
    held->role.follow(w);
    awaited r = awaited::ready;
    // Once it has an event it is woken by that alone, also when its pipes have closed.
    if (also.empty() && !w.has_event(held)) {
        if (!w.sleep(held, d)) r = awaited::timed_out;
    } else {
        const int event = w.event(held);
        // Without an eventfd (EMFILE) it looks again every so often.
        const deadline until = event >= 0 ? d : steady::now() + std::chrono::milliseconds(10);
        polled all(event, also);
        int got = 0;
        held.unlocked([&] { got = all.until(until); });
        if (all.own_ready()) w.clear_event(held);
        if (got == 0 && (event >= 0 || passed(d))) r = awaited::timed_out;
        if (all.also_ready()) r = awaited::descriptors;
    }
    held->role.unfollow(w);
    return r;
}

// Passes the role to a thread that waits, or leaves the reading to the watcher.
void connection::leave_role(const tables_lock& held) {
    if (held->loss) return held->role.drop();
    if (!held->role.pass_on(held)) update_watch(held);
}

void connection::on_readable(std::uint64_t round) {
    {
        const auto held = lock();
        if (!held->watch.is_current(round)) return;
        held->watch.read_done();
        // A thread that has the role reads this too, and arms the watcher when it leaves.
        if (held->loss || !held->role.take()) return;
    }
    drain(nullptr);
    leave_role(lock());
}

void connection::read_available() {
    {
        const auto held = lock();
        if (held->loss || !held->role.take()) return;
    }
    drain(nullptr);
    leave_role(lock());
}

// Reads and dispatches what is there, at most until `until` is ready: what is
// left then is found by whoever has the role next. The role must be the caller's.
void connection::drain(const waiter* until) {
    for (int i = 0; i < k_burst; ++i) {
        ipc::received packet = receiver_.receive(socket_.get());
        switch (packet.status) {
            case ipc::receive_status::would_block: return;
            case ipc::receive_status::closed:
                lose(ipc::fail(step::connect, ECONNRESET, "forkserver",
                               "the forkserver was lost: it ended or was killed"));
                return;
            case ipc::receive_status::failed:
                lose(ipc::fail(step::connect, packet.error_number, "forkserver"));
                return;
            case ipc::receive_status::malformed:
                lose(packet.error_number == EMFILE
                         ? ipc::fail(step::connect, EMFILE, "forkserver",
                                     "a pidfd could not be received, which ended the session: "
                                     "raise RLIMIT_NOFILE of this program")
                         : ipc::fail(step::protocol, EBADMSG, "forkserver",
                                     "it sent a malformed packet"));
                return;
            case ipc::receive_status::packet: break;
        }
        auto message = ipc::decode_server_message(std::move(packet));
        if (!message) return lose(message.error());
        dispatch(std::move(*message));
        if (until != nullptr && until->ready(lock())) return;
    }
}

void connection::dispatch(reply&& r) {
    if (r.message.has_exits()) return on_exits(r.message.exits());
    const ipc::request_id id(r.message.request_id());
    // A failure of no request says why the forkserver ends the session.
    if (!id && r.message.has_failure()) return lose(ipc::from_wire(r.message.failure()));
    std::shared_ptr<operation> op;
    {
        const auto held = lock();
        if (held->loss) return;
        op = take_pending(held, id);
    }
    if (!op)
        return lose(ipc::fail(step::protocol, EBADMSG, "forkserver",
                              "it answered a request that was not made"));
    if (r.message.has_failure())
        op->finish(*this, ipc::from_wire(r.message.failure()));
    else
        op->finish(*this, std::move(r));
}

void connection::on_exits(const v1::ExitEvents& events) {
    for (const v1::Exit& e : events.exits()) {
        const ipc::child_id id(e.child());
        std::shared_ptr<exit_listener> child;
        {
            const auto held = lock();
            if (const auto found = held->children.find(id); found != held->children.end()) {
                child = found->second.lock();
                held->children.erase(found);
            }
            // Also when nobody has a handle: the forkserver keeps the status until then.
            held->acknowledged.push_back(id);
        }
        const std::optional<lease> unused = leases_.forget(id);
        if (child) child->ended(end_of(e));
    }
    send_acknowledgements(k_acknowledge_at_once);
}

void connection::send_acknowledgements(std::size_t at_least) {
    {
        const auto held = lock();
        if (held->loss || held->acknowledged.size() < at_least) return;
    }
    outgoing m;
    m->mutable_acknowledge();
    // Without an operation there is nobody to tell of a failure; the next
    // request carries them then.
    (void)submit(next_id(), m, nullptr);
}

}  // namespace cleanfork::detail
