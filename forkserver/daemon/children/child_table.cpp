#include "forkserver/daemon/children/child_table.hpp"

#include <sys/epoll.h>

#include <boost/system/system_error.hpp>
#include <cassert>
#include <csignal>

#include "ipc/base/sys.hpp"
#include "ipc/wire/usage.hpp"

namespace cleanfork::daemon {

namespace {

// After this many exits the others get their turn.
constexpr int k_exits_a_turn = 128;

}  // namespace

child_table::child_table(boost::asio::io_context& io, unique_fd watch, child_table_owner& owner)
    : io_(io), watch_(io, "children"), owner_(owner) {
    if (const int e = watch_.take(watch))
        throw boost::system::system_error(e, boost::system::system_category(), "epoll");
    await();
}

result<unique_fd> child_table::create_watch() {
    unique_fd fd(::epoll_create1(EPOLL_CLOEXEC));
    if (!fd) return ipc::fail(step::launch, errno, "epoll");
    return fd;
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
    if (!c.origin.forked_by && !watch(c)) {
        const int e = errno;
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
    if (!watch(c)) {
        const int e = errno;
        c.process.signal(SIGKILL);
        (void)c.process.reap(0);
        return ipc::fail(step::prepare, e, "pidfd", "it could not be watched and was killed");
    }
    ++alive_;
    return {};
}

bool child_table::watch(child& c) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = c.id.value();
    c.watched = ::epoll_ctl(watch_.fd(), EPOLL_CTL_ADD, c.process.pidfd(), &event) == 0;
    return c.watched;
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

void child_table::await() {
    watch_.await([this] {
        bounded(io_, "children", [this] { drain(); });
        await();
    });
}

void child_table::drain() {
    epoll_event events[k_exits_a_turn];
    const int n = ::epoll_wait(watch_.fd(), events, k_exits_a_turn, 0);
    for (int i = 0; i < n; ++i)
        if (child* c = find(child_id(events[i].data.u64)))
            bounded(io_, "exit of a child", [&] { reap_if_ended(*c); });
    owner_.on_exits_drained();
}

void child_table::reap(child& c) {
    reap_if_ended(c);
    owner_.on_exits_drained();
}

bool child_table::ended(child& c, child_exit end) {
    if (c.exit) return true;
    // Once it was reaped the kernel itself may tell.
    const auto kernels = ipc::pidfd_exit_status(c.process.pidfd());
    if (!kernels && !ipc::pidfd_wait(c.process.pidfd(), ipc::pidfd_event::ended, 0)) return false;
    end.wait_status = kernels.value_or(end.wait_status);
    c.origin.forked_by = {};
    exited(c, std::move(end));
    owner_.on_exits_drained();
    return true;
}

void child_table::adopt(child& c) {
    if (c.exit || c.watched) return;
    // Without memory for the watch it is killed, and found with the orphans.
    if (!watch(c)) c.process.signal(SIGKILL);
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
    if (c.watched) ::epoll_ctl(watch_.fd(), EPOLL_CTL_DEL, c.process.pidfd(), nullptr);
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
