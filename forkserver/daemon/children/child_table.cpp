#include "forkserver/daemon/children/child_table.hpp"

#include <poll.h>

#include <cassert>
#include <csignal>

#include "forkserver/daemon/loop/boundary.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/usage.hpp"

namespace cleanfork::daemon {

child_table::child_table(event_loop& io, child_table_owner& owner) : io_(io), owner_(owner) {
    io_.tell_ends_to(*this);
}

result<child*> child_table::add(child_origin origin, ipc::process_ref process,
                                std::uint64_t started_ns) {
    const child_id id = next_id_.take_next();
    std::map<child_id, child>::iterator at;
    try {
        at = children_.try_emplace(children_.end(), id);
    } catch (...) {  // no memory for it: it is nobody's, and must not run
        process.signal(SIGKILL);
        if (!origin.forked_by) (void)process.reap(0);
        throw;
    }
    child& c = at->second;
    c.id = id;
    c.origin = std::move(origin);
    c.process = std::move(process);
    c.started_ns = started_ns;
    if (const int e = c.origin.forked_by ? 0 : watch(c)) {
        c.process.signal(SIGKILL);
        (void)c.process.reap(0);
        children_.erase(id);
        return ipc::fail(step::prepare, e, "pidfd",
                         "the child could not be watched and was killed; its program may have "
                         "begun");
    }
    ++alive_;
    return &c;
}

result<void> child_table::begin_again(child& c, ipc::process_ref process,
                                      std::uint64_t started_ns) {
    c.process = std::move(process);
    c.started_ns = started_ns;
    if (const int e = watch(c)) {
        c.process.signal(SIGKILL);
        (void)c.process.reap(0);
        return ipc::fail(step::prepare, e, "pidfd", "it could not be watched and was killed");
    }
    ++alive_;
    return {};
}

int child_table::watch(child& c) {
    const int e = io_.watch_process(c.process.pidfd(), c.id.value());
    c.watched = e == 0;
    return e;
}

child* child_table::find(child_id id) {
    const auto at = children_.find(id);
    return at == children_.end() ? nullptr : &at->second;
}

void child_table::forget(child_id id) {
    assert(!children_.contains(id) || !children_.at(id).ending);
    children_.erase(id);
}

void child_table::each(const std::function<void(child&)>& f) {
    for (auto& [id, c] : children_) f(c);
}

child_id child_table::after(child_id from, std::size_t most, std::vector<child_id>& out) const {
    auto at = children_.lower_bound(from);
    for (; most != 0 && at != children_.end(); --most, ++at) out.push_back(at->first);
    return at == children_.end() ? child_id() : at->first;
}

void child_table::on_end_of_process(std::uint64_t number) {
    if (child* c = find(child_id(number))) reap_if_ended(*c);
}

void child_table::reap(child& c) {
    reap_if_ended(c);
    owner_.on_exits_drained();
}

namespace {

// POLLIN: it has ended. POLLHUP: it was reaped, too.
short events_of(const ipc::process_ref& process) noexcept {
    pollfd p{process.pidfd(), POLLIN, 0};
    return ipc::retry([&] { return ::poll(&p, 1, 0); }) > 0 ? p.revents : short{0};
}

}  // namespace

bool child_table::ended(child& c, child_exit end) {
    if (c.exit) return true;
    const short events = events_of(c.process);
    if ((events & (POLLIN | POLLHUP)) == 0) return false;
    // Once it was reaped the kernel itself may tell.
    if ((events & POLLHUP) != 0)
        end.wait_status = ipc::pidfd_exit_status(c.process.pidfd()).value_or(end.wait_status);
    c.origin.forked_by = {};
    exited(c, std::move(end));
    owner_.on_exits_drained();
    return true;
}

void child_table::adopt(child& c) {
    if (c.exit || c.watched) return;
    // Without memory for the watch it is killed, and found with the orphans.
    if (watch(c) != 0) c.process.signal(SIGKILL);
}

void child_table::reap_if_ended(child& c) {
    if (c.has_no_process()) return;
    const ipc::reaped r = c.process.reap(WNOHANG);
    if (r.is_child && !r.end) return;
    child_exit e;
    if (r.end) {
        e.wait_status = r.end->wait_status;
        ipc::to_wire(r.end->usage, e.usage);
    } else {
        // A template reaped it and was killed before it could tell.
        const auto status = ipc::pidfd_exit_status(c.process.pidfd());
        // Of one that lives and is nobody's child of ours there is nothing to tell.
        if (!status && !ipc::pidfd_wait(c.process.pidfd(), ipc::pidfd_event::ended, 0))
            return unwatch(c);
        e.known = status.has_value();
        e.wait_status = status.value_or(0);
        if (!e.known && !c.origin.template_name.empty())
            e.error = "its template ended before it could tell";
        else if (!e.known)
            e.error = ipc::fail(step::wait, r.error_number, "waitid",
                                "another than the forkserver has reaped it")
                          .message();
    }
    exited(c, std::move(e));
}

// The client holds a copy of the pidfd, so closing ours would not end the watch.
void child_table::unwatch(child& c) {
    if (c.watched) io_.unwatch_process(c.process.pidfd());
    c.watched = false;
}

void child_table::exited(child& c, child_exit e) {
    assert(!c.exit && alive_ != 0);
    unwatch(c);
    e.wall_ns = ipc::monotonic_ns() - c.started_ns;
    c.exit = std::move(e);
    --alive_;
    ++exited_total_;
    owner_.on_exit(c);
}

}  // namespace cleanfork::daemon
