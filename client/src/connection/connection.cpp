#include "client/src/connection/connection.hpp"

#include <sys/socket.h>

#include <list>

#include "client/src/connection/convert.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::detail {

connection::connection(unique_fd socket, any_io_executor executor)
    : socket_(std::move(socket)),
      executor_(std::move(executor)),
      writer_(socket_.get()),
      watch_io_(executor_),
      watcher_(socket_.get()) {}

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

bool connection::lost() const {
    const std::lock_guard lock(mutex_);
    return loss_.has_value();
}

void connection::close() {
    read_available();  // exits that have come already belong to their handles
    send_acknowledgements(1);
    lose(ipc::fail(step::connect, ECANCELED, "client", "the client was destroyed"));
    // Not close(2): another thread may be in poll() with this descriptor.
    ::shutdown(socket_.get(), SHUT_RDWR);
}

result<void> connection::submit(std::uint64_t id, outgoing& m,
                                const std::shared_ptr<operation>& op) {
    std::vector<std::uint64_t> acknowledged;
    {
        const std::lock_guard lock(mutex_);
        if (loss_) return *loss_;
        if (op) {
            pending_.emplace(id, op);
            if (const any_io_executor* io = op->io()) add_interest(*io);
        }
        acknowledged.swap(acknowledged_);
    }
    m->set_request_id(id);
    m.descriptors.state_in(*m);
    for (const std::uint64_t child : acknowledged) m->add_acknowledged(child);
    auto sent = writer_.send(*m, m.descriptors.numbers());
    m.descriptors.close_owned();
    if (sent && *sent == writer::sent::now) return {};

    const std::lock_guard lock(mutex_);
    if (sent) {
        update_watch();
        return {};
    }
    acknowledged_.insert(acknowledged_.end(), acknowledged.begin(), acknowledged.end());
    // Gone when the connection was lost meanwhile: `op` was finished then.
    if (op && pending_.erase(id) == 0) return {};
    if (op && op->io()) drop_interest();
    return sent.error();
}

void connection::request_cancel(std::uint64_t id) {
    outgoing m;
    m->mutable_cancel()->set_request_id(id);
    (void)submit(next_id(), m, std::make_shared<ignoring_operation>());
}

void connection::withdraw(std::uint64_t id, failure why,
                          const std::shared_ptr<operation>& instead) {
    std::shared_ptr<operation> op;
    {
        const std::lock_guard lock(mutex_);
        const auto found = pending_.find(id);
        if (found == pending_.end()) return;
        op = std::exchange(found->second, instead);
        if (op->io()) drop_interest();
    }
    op->finish(*this, std::move(why));
}

void connection::flush_blocking(const deadline& d) {
    std::vector<writer::unsent> failed;
    while (!writer_.flush(failed) && !passed(d)) {
        std::unique_lock lock(mutex_);
        if (loss_) break;
        const bool read_too = !role_taken_;
        // Someone must read, or the forkserver, which holds back a client that
        // does not take its replies, never makes room.
        if (read_too) role_taken_ = true;
        lock.unlock();
        pollfd p{socket_.get(), static_cast<short>(read_too ? POLLIN | POLLOUT : POLLOUT), 0};
        // The other reader may leave without our notice: look again soon.
        const deadline soon = steady::now() + std::chrono::milliseconds(10);
        poll_until({&p, 1}, read_too ? d : d ? std::min(d, soon) : soon);
        if (read_too) {
            if ((p.revents & ~POLLOUT) != 0) drain(nullptr);
            lock.lock();
            leave_role(lock);
        }
    }
    finish_unsent(failed);
}

void connection::on_writable() {
    std::vector<writer::unsent> failed;
    writer_.flush(failed);
    {
        const std::lock_guard lock(mutex_);
        watcher_.write_done();
        update_watch();  // more may have been queued since
    }
    finish_unsent(failed);
}

void connection::finish_unsent(std::vector<writer::unsent>& failed) {
    for (writer::unsent& u : failed) {
        std::shared_ptr<operation> op;
        {
            const std::lock_guard lock(mutex_);
            const auto found = pending_.find(u.request_id);
            if (found == pending_.end()) continue;
            op = std::move(found->second);
            pending_.erase(found);
            if (op->io()) drop_interest();
        }
        op->finish(*this, std::move(u.why));
    }
}

void connection::add_interest(const any_io_executor& io) {
    ++interest_;
    // An operation's own executor is kept busy by it; ours must not be.
    if (!executor_ && !watcher_.reading())
        watch_io_ = boost::asio::prefer(io, boost::asio::execution::outstanding_work.untracked);
    update_watch();
}

void connection::drop_interest() {
    --interest_;
    if (interest_ == 0) update_watch();
}

// Has the watcher do what is needed now; with the mutex held.
void connection::update_watch() {
    if (loss_) return watcher_.release();
    if (interest_ == 0) {
        watcher_.cancel_read();
        // A borrowed executor's context need not outlive its operations.
        if (!executor_) {
            watcher_.release();
            watch_io_ = {};
        }
        return;
    }
    if (!role_taken_ && !watcher_.reading()) watcher_.arm_read(weak_from_this(), watch_io_);
    if (!watcher_.writing() && writer_.blocked()) watcher_.arm_write(weak_from_this(), watch_io_);
}

void connection::lose(failure why) {
    std::unordered_map<std::uint64_t, std::shared_ptr<operation>> pending;
    std::unordered_map<std::uint64_t, std::weak_ptr<child_state>> children;
    {
        const std::lock_guard lock(mutex_);
        if (loss_) return;
        loss_ = why;
        pending.swap(pending_);
        children.swap(children_);
        acknowledged_.clear();
        interest_ = 0;
        update_watch();
    }
    writer_.discard();
    for (auto& [id, op] : pending) op->finish(*this, why);
    for (auto& [id, weak] : children)
        if (const auto child = weak.lock()) child->orphaned();
}

// The context of the watcher is being destroyed: so are its operations, without
// a call, as an asio object's own would be.
void connection::abandon(std::uint64_t generation) {
    std::vector<std::shared_ptr<operation>> dropped;
    std::list<pending_wait> waits;
    std::vector<std::shared_ptr<child_state>> children;  // may be the last: not under the mutex
    const std::lock_guard lock(mutex_);
    if (generation != watcher_.generation()) return;
    watcher_.release();
    for (auto it = pending_.begin(); it != pending_.end();) {
        const bool ours = it->second->io() != nullptr;
        if (ours) dropped.push_back(std::move(it->second));
        it = ours ? pending_.erase(it) : std::next(it);
    }
    for (auto& [id, weak] : children_) {
        auto child = weak.lock();
        if (!child) continue;
        waits.splice(waits.end(), child->async_waits);
        children.push_back(std::move(child));
    }
    interest_ = 0;
}

result<process> connection::adopt(const v1::SpawnReply& r, std::vector<unique_fd>& descriptors,
                                  parent_ends&& ends) {
    if (r.has_failure()) return ipc::from_wire(r.failure());
    const v1::Spawned& s = r.spawned();
    const std::uint32_t place = s.pidfd_descriptor();
    const bool has_pidfd = place >= 1 && place <= descriptors.size();
    if (!r.has_spawned() || s.child() == 0 || (!has_pidfd && !s.has_exit()))
        return ipc::fail(step::protocol, EBADMSG, "forkserver", "an incomplete reply to a spawn");
    auto child =
        std::make_shared<child_state>(shared_from_this(), s.child(), s.pid(),
                                      has_pidfd ? std::move(descriptors[place - 1]) : unique_fd());
    {
        const std::lock_guard lock(mutex_);
        if (s.has_exit()) {
            child->take(end_of(s.exit()));
            acknowledged_.push_back(s.child());
        } else if (!loss_) {
            children_.emplace(s.child(), child);
        }
    }
    process p;
    p.state_ = std::move(child);
    p.in_ = std::move(ends.in);
    p.out_ = std::move(ends.out);
    p.err_ = std::move(ends.err);
    p.result_ = std::move(ends.result);
    return p;
}

}  // namespace cleanfork::detail
