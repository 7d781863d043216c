// The reader's role: who reads the socket, and what becomes of what is read.
#include <sys/eventfd.h>

#include <algorithm>
#include <array>

#include "client/src/connection/connection.hpp"
#include "client/src/connection/convert.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::detail {

namespace {

// So many packets are read before an executor's other work gets its turn.
constexpr int k_burst = 64;
// Descriptors that a blocked call can poll beside the socket: three pipes and a pidfd.
constexpr std::size_t k_most_also = 4;
// Exits are acknowledged with the next request, or alone when so many are known.
constexpr std::size_t k_acknowledge_at_once = 64;

}  // namespace

// Both ways: a thread that has polled once waits on the condition variable
// when it has no descriptor left to poll.
void waiter::wake() noexcept {
    changed.notify_one();
    const std::uint64_t one = 1;
    // Cannot fail: nobody wakes often enough to fill the counter.
    if (event) [[maybe_unused]]
        const ssize_t n = ::write(event.get(), &one, sizeof one);
}

connection::awaited connection::await(std::unique_lock<std::mutex>& lock, waiter& w,
                                      const deadline& d, std::span<pollfd> also) {
    for (;;) {
        if (w.ready) return awaited::ready;
        if (loss_ || role_taken_) {
            const awaited r = follow(lock, w, d, also);
            if (!w.promoted) {
                if (r != awaited::ready || w.ready) return r;
                continue;  // the role may be free now
            }
            w.promoted = false;  // role_taken_ stays set: it is ours now
            if (w.ready || r != awaited::ready) {
                leave_role(lock);
                return w.ready ? awaited::ready : r;
            }
        }
        role_taken_ = true;
        const awaited r = lead(lock, w, d, also);
        leave_role(lock);
        if (r != awaited::ready || w.ready) return r;
        // Lost: whoever found out is about to finish our operation.
    }
}

// Reads until w.ready, the deadline, one of `also`, or the loss of the connection (`ready`).
connection::awaited connection::lead(std::unique_lock<std::mutex>& lock, waiter& w,
                                     const deadline& d, std::span<pollfd> also) {
    std::array<pollfd, 1 + k_most_also> fds{};
    const std::size_t n = std::min(also.size(), k_most_also);
    while (!w.ready && !loss_) {
        lock.unlock();
        fds[0] = {socket_.get(), POLLIN, 0};
        std::copy_n(also.begin(), n, fds.begin() + 1);
        const int got = poll_until({fds.data(), n + 1}, d);
        if (fds[0].revents != 0) drain(&w);
        lock.lock();
        bool other = false;
        for (std::size_t i = 0; i < n; ++i) {
            also[i].revents = fds[i + 1].revents;
            other = other || also[i].revents != 0;
        }
        if (w.ready) break;
        if (other) return awaited::descriptors;
        if (got == 0) return awaited::timed_out;
    }
    return awaited::ready;
}

// Waits for `ready`, a promotion (told as `ready`), the deadline or one of `also`.
connection::awaited connection::follow(std::unique_lock<std::mutex>& lock, waiter& w,
                                       const deadline& d, std::span<pollfd> also) {
    followers_.push_back(&w);
    awaited r = awaited::ready;
    // Once it has an event it is woken by that alone, also when its pipes have closed.
    if (also.empty() && !w.event) {
        const auto changed = [&] { return w.ready || w.promoted; };
        if (!d)
            w.changed.wait(lock, changed);
        else if (!w.changed.wait_until(lock, *d, changed))
            r = awaited::timed_out;
    } else {
        if (!w.event) w.event.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
        std::array<pollfd, 1 + k_most_also> fds{};
        const std::size_t n = std::min(also.size(), k_most_also);
        // Without an eventfd (EMFILE) it looks again every so often.
        const deadline until = w.event ? d : steady::now() + std::chrono::milliseconds(10);
        fds[0] = {w.event.get(), POLLIN, 0};
        std::copy_n(also.begin(), n, fds.begin() + 1);
        lock.unlock();
        const int got = poll_until({fds.data(), n + 1}, until);
        std::uint64_t count = 0;
        if (fds[0].revents != 0) [[maybe_unused]]
            const ssize_t read = ::read(w.event.get(), &count, sizeof count);
        lock.lock();
        if (got == 0 && (w.event || passed(d))) r = awaited::timed_out;
        for (std::size_t i = 0; i < n; ++i) {
            also[i].revents = fds[i + 1].revents;
            if (also[i].revents != 0) r = awaited::descriptors;
        }
    }
    std::erase(followers_, &w);
    return r;
}

// Passes the role to a thread that waits, or leaves the reading to the watcher.
void connection::leave_role(const std::unique_lock<std::mutex>&) {
    role_taken_ = false;
    if (loss_) return;
    for (waiter* next : followers_) {
        if (next->ready || next->promoted) continue;
        role_taken_ = true;
        next->promoted = true;
        next->wake();
        return;
    }
    update_watch();
}

void connection::on_readable(std::uint64_t generation) {
    std::unique_lock lock(mutex_);
    if (generation != watcher_.generation()) return;
    watcher_.read_done();
    // A thread that has the role reads this too, and arms the watcher when it leaves.
    if (role_taken_ || loss_) return;
    role_taken_ = true;
    lock.unlock();
    drain(nullptr);
    lock.lock();
    leave_role(lock);
}

void connection::read_available() {
    std::unique_lock lock(mutex_);
    if (role_taken_ || loss_) return;
    role_taken_ = true;
    lock.unlock();
    drain(nullptr);
    lock.lock();
    leave_role(lock);
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
        if (until != nullptr) {
            const std::lock_guard lock(mutex_);
            if (until->ready) return;
        }
    }
}

void connection::dispatch(reply&& r) {
    if (r.message.has_exits()) return on_exits(r.message.exits());
    const std::uint64_t id = r.message.request_id();
    // A failure of no request says why the forkserver ends the session.
    if (id == 0 && r.message.has_failure()) return lose(ipc::from_wire(r.message.failure()));
    std::shared_ptr<operation> op;
    {
        const std::lock_guard lock(mutex_);
        if (loss_) return;
        if (const auto found = pending_.find(id); found != pending_.end()) {
            op = std::move(found->second);
            pending_.erase(found);
            if (op->io()) drop_interest();
        }
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
        std::shared_ptr<child_state> child;
        {
            const std::lock_guard lock(mutex_);
            if (const auto found = children_.find(e.child()); found != children_.end()) {
                child = found->second.lock();
                children_.erase(found);
            }
            // Also when nobody has a handle: the forkserver keeps the status until then.
            acknowledged_.push_back(e.child());
        }
        if (child) child->ended(end_of(e));
    }
    send_acknowledgements(k_acknowledge_at_once);
}

void connection::send_acknowledgements(std::size_t at_least) {
    {
        const std::lock_guard lock(mutex_);
        if (loss_ || acknowledged_.size() < at_least) return;
    }
    outgoing m;
    m->mutable_acknowledge();
    // Without an operation there is nobody to tell of a failure; the next
    // request carries them then.
    (void)submit(next_id(), m, nullptr);
}

}  // namespace cleanfork::detail
