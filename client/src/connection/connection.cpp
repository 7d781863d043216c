#include "client/src/connection/connection.hpp"

#include <sys/socket.h>

#include "client/src/connection/follow_caller.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::detail {

connection::connection(unique_fd socket, any_io_executor executor)
    : socket_(std::move(socket)),
      executor_(std::move(executor)),
      writer_(socket_.get()),
      tables_(socket_.get(), executor_) {}

connection::~connection() = default;

client connection::make_client(std::shared_ptr<connection> c) {
    // Handles of children and pending operations keep the connection, but only
    // the client's handle is the session.
    struct session {
        std::shared_ptr<connection> held;
        explicit session(std::shared_ptr<connection> h) : held(std::move(h)) {}
        session(const session&) = delete;
        session& operator=(const session&) = delete;
        ~session() { held->close(); }
    };
    connection* const raw = c.get();
    auto s = std::make_shared<session>(std::move(c));
    return client(std::shared_ptr<connection>(std::move(s), raw));
}

process connection::make_process(std::shared_ptr<child_state> child, parent_ends&& ends) {
    process p;
    p.state_ = std::move(child);
    p.in_ = std::move(ends.in);
    p.out_ = std::move(ends.out);
    p.err_ = std::move(ends.err);
    p.pty_ = std::move(ends.pty);
    p.result_ = std::move(ends.result);
    return p;
}

bool connection::lost() { return lock()->loss.has_value(); }

void connection::close() {
    if (!owner_.is_this()) return;
    read_available();  // exits that have come already belong to their handles
    send_acknowledgements(1);
    lose(ipc::fail(step::connect, ECANCELED, "client", "the client was destroyed"));
    // Not close(2): another thread may be in poll() with this descriptor.
    ::shutdown(socket_.get(), SHUT_RDWR);
    if (const auto act = std::exchange(at_close_, nullptr)) act();
}

// ---- requests --------------------------------------------------------------

result<void> connection::follow(outgoing& m) const {
    if (m.follows_caller) return {};
    auto followed = follow_caller(facts_.identity, *m);
    m.follows_caller = bool(followed);
    return followed;
}

result<void> connection::submit(ipc::request_id id, outgoing& m,
                                const std::shared_ptr<operation>& op) {
    if (auto r = follow(m); !r) return r;
    std::vector<ipc::child_id> acknowledged;
    {
        const auto held = lock();
        if (held->loss) return *held->loss;
        if (op) {
            held->pending.emplace(id, op);
            if (const any_io_executor* io = op->io()) add_interest(held, *io);
        }
        acknowledged.swap(held->acknowledged);
    }
    m->set_request_id(id.value());
    m.descriptors.state_in(*m);
    for (const ipc::child_id child : acknowledged) m->add_acknowledged(child.value());
    auto sent = writer_.send(*m, m.descriptors.numbers());
    m.descriptors.close_owned();
    if (sent && *sent == writer::sent::now) return {};

    const auto held = lock();
    if (sent) {
        update_watch(held);
        return {};
    }
    held->acknowledged.insert(held->acknowledged.end(), acknowledged.begin(), acknowledged.end());
    // Gone when the connection was lost meanwhile: `op` was finished then.
    if (op && !take_pending(held, id)) return {};
    return sent.error();
}

std::shared_ptr<operation> connection::take_pending(const tables_lock& held, ipc::request_id id) {
    const auto found = held->pending.find(id);
    if (found == held->pending.end()) return nullptr;
    std::shared_ptr<operation> op = std::move(found->second);
    held->pending.erase(found);
    if (op->io()) drop_interest(held);
    return op;
}

void connection::request_cancel(ipc::request_id id) {
    outgoing m;
    m->mutable_cancel()->set_request_id(id.value());
    (void)submit(next_id(), m, std::make_shared<ignoring_operation>());
}

void connection::withdraw(ipc::request_id id, failure why) {
    std::shared_ptr<operation> op;
    {
        const auto held = lock();
        op = take_pending(held, id);
        if (op) held->pending.emplace(id, std::make_shared<ignoring_operation>());
    }
    if (op) op->finish(*this, std::move(why));
}

bool connection::flush() {
    writer::flushed done = writer_.flush();
    for (writer::unsent& u : done.dropped)
        if (const auto op = take_pending(lock(), u.request)) op->finish(*this, std::move(u.why));
    return done.all;
}

void connection::flush_blocking(const deadline& d) {
    while (!flush() && !passed(d)) {
        bool read_too = false;
        {
            const auto held = lock();
            if (held->loss) return;
            // Someone must read, or the forkserver, which holds back a client that
            // does not take its replies, never makes room.
            read_too = held->role.take();
        }
        pollfd p{socket_.get(), static_cast<short>(read_too ? POLLIN | POLLOUT : POLLOUT), 0};
        // The other reader may leave without our notice: look again soon.
        const deadline soon = steady::now() + std::chrono::milliseconds(10);
        poll_until({&p, 1}, read_too ? d : d ? std::min(d, soon) : soon);
        if (!read_too) continue;
        if ((p.revents & ~POLLOUT) != 0) drain(nullptr);
        leave_role(lock());
    }
}

void connection::on_writable() {
    flush();
    const auto held = lock();
    held->watch.write_done();
    update_watch(held);  // more may have been queued since
}

// ---- children --------------------------------------------------------------

void connection::expect_exit(ipc::child_id child, const std::shared_ptr<exit_listener>& told) {
    const auto held = lock();
    if (!held->loss) held->children.emplace(child, told);
}

void connection::acknowledge(ipc::child_id child) { lock()->acknowledged.push_back(child); }

void connection::leave_rest(ipc::child_id child) {
    outgoing m;
    m->mutable_acknowledge()->add_left_alone(child.value());
    // A forkserver that is lost does nothing to anybody.
    (void)submit(next_id(), m, nullptr);
}

std::optional<lease> connection::take_lease(const std::string& kind) {
    auto l = leases_.take(kind);
    if (!l && !leases_.awaits(kind)) return std::nullopt;
    if (!owner_.is_this()) return std::nullopt;
    if (l) return l;
    read_available();
    return leases_.take_late(kind);
}

std::size_t connection::leases_to_ask_for(const std::string& kind) {
    const std::size_t missing = leases_.to_ask_for(kind);
    return missing != 0 && owner_.is_this() ? missing : 0;
}

void connection::add_interest(const tables_lock& held, const any_io_executor& io) {
    held->watch.add_interest(io);
    update_watch(held);
}

void connection::drop_interest(const tables_lock& held) {
    held->watch.drop_interest();
    update_watch(held);
}

void connection::update_watch(const tables_lock& held) {
    if (held->loss) return held->watch.release();
    held->watch.update(weak_from_this(), {.read = !held->role.taken(), .write = writer_.blocked()});
}

// ---- the end ---------------------------------------------------------------

void connection::lose(failure why) {
    decltype(connection_tables::pending) pending;
    decltype(connection_tables::children) children;
    {
        const auto held = lock();
        if (held->loss) return;
        held->loss = why;
        pending.swap(held->pending);
        children.swap(held->children);
        held->acknowledged.clear();
        held->watch.drop_all_interest();
        update_watch(held);
    }
    writer_.discard();
    // They hold this connection.
    const std::vector<lease> unused = leases_.close();
    for (auto& [id, op] : pending) op->finish(*this, why);
    for (auto& [id, weak] : children)
        if (const auto child = weak.lock()) child->orphaned();
}

// As an object of Asio's would, operations end without a call when their context goes.
void connection::on_context_gone(std::uint64_t round) {
    // Destroyed after the lock is free.
    std::vector<std::shared_ptr<operation>> dropped;
    std::vector<std::list<pending_wait>> waits;
    std::vector<std::shared_ptr<exit_listener>> children;  // these may be the last handles
    const auto held = lock();
    if (!held->watch.is_current(round)) return;
    held->watch.release();
    std::erase_if(held->pending, [&](auto& entry) {
        if (entry.second->io() == nullptr) return false;
        dropped.push_back(std::move(entry.second));
        return true;
    });
    for (auto& [id, weak] : held->children) {
        auto child = weak.lock();
        if (!child) continue;
        waits.push_back(child->give_up_waits(held));
        children.push_back(std::move(child));
    }
    held->watch.drop_all_interest();
}

}  // namespace cleanfork::detail
