#include "forkserver/daemon/children/child_table.hpp"

#include <sys/epoll.h>
#include <sys/wait.h>

#include <csignal>

#include "ipc/base/process_ref.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/usage.hpp"

namespace cleanfork::daemon {

namespace {

constexpr int k_exits_at_once = 256;

}  // namespace

child_table::child_table(boost::asio::io_context& io, unique_fd watch,
                         std::function<void(child&)> on_exit, std::function<void()> on_drained)
    : watch_(io, watch.release()),
      on_exit_(std::move(on_exit)),
      on_drained_(std::move(on_drained)) {
    await();
}

result<unique_fd> child_table::create_watch() {
    unique_fd fd(::epoll_create1(EPOLL_CLOEXEC));
    if (!fd) return ipc::fail(step::launch, errno, "epoll");
    return fd;
}

result<child*> child_table::add(child c) {
    c.id = next_id_.take_next();
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = c.id.value();
    if (::epoll_ctl(watch_.native_handle(), EPOLL_CTL_ADD, c.process.pidfd(), &event) != 0) {
        const int e = errno;
        c.process.signal(SIGKILL);
        (void)c.process.reap(0);
        return ipc::fail(step::prepare, e, "pidfd",
                         "the child could not be watched and was killed");
    }
    ++alive_;
    c.watched = true;
    const child_id id = c.id;
    return &children_.emplace_hint(children_.end(), id, std::move(c))->second;
}

child* child_table::find(child_id id) {
    const auto at = children_.find(id);
    return at == children_.end() ? nullptr : &at->second;
}

void child_table::forget(child_id id) { children_.erase(id); }

void child_table::each(const std::function<void(child&)>& f) {
    for (auto& [id, c] : children_) f(c);
}

std::vector<child_id> child_table::of_session(session_id session) const {
    std::vector<child_id> ids;
    for (const auto& [id, c] : children_)
        if (c.session == session) ids.push_back(id);
    return ids;
}

void child_table::await() {
    watch_.async_wait(boost::asio::posix::descriptor_base::wait_read,
                      [this](boost::system::error_code ec) {
                          if (ec) return;
                          drain();
                          await();
                      });
}

void child_table::drain() {
    epoll_event events[k_exits_at_once];
    for (;;) {
        const int n = ::epoll_wait(watch_.native_handle(), events, k_exits_at_once, 0);
        for (int i = 0; i < n; ++i)
            if (child* c = find(child_id(events[i].data.u64))) reap_if_ended(*c);
        if (n < k_exits_at_once) break;
    }
    on_drained_();
}

child* child_table::add_of_template(child c) {
    c.id = next_id_.take_next();
    ++alive_;
    const child_id id = c.id;
    return &children_.emplace_hint(children_.end(), id, std::move(c))->second;
}

void child_table::ended(child& c, int wait_status, const rusage& usage, std::string error) {
    if (c.exit) return;
    exited(c, {wait_status, usage, ipc::monotonic_ns() - c.started_ns, std::move(error)});
    on_drained_();
}

void child_table::adopt(child& c) {
    if (c.exit || c.watched) return;
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = c.id.value();
    // Without memory for the watch it is killed, and found with the orphans.
    c.watched = ::epoll_ctl(watch_.native_handle(), EPOLL_CTL_ADD, c.process.pidfd(), &event) == 0;
    if (!c.watched) c.process.signal(SIGKILL);
}

void child_table::reap_if_ended(child& c) {
    if (c.exit) return;
    const ipc::reaped r = c.process.reap(WNOHANG);
    if (r.is_child && !r.end) return;
    child_exit e;
    e.wall_ns = ipc::monotonic_ns() - c.started_ns;
    if (r.end) {
        e.wait_status = r.end->wait_status;
        e.usage = r.end->usage;
    } else {
        // A template reaped it and was killed before it could tell.
        const auto status = ipc::pidfd_exit_status(c.process.pidfd());
        e.known = status.has_value();
        e.wait_status = status.value_or(0);
    }
    exited(c, std::move(e));
}

void child_table::exited(child& c, child_exit e) {
    // The client holds a copy of the pidfd, so closing ours would not end the watch.
    if (c.watched) ::epoll_ctl(watch_.native_handle(), EPOLL_CTL_DEL, c.process.pidfd(), nullptr);
    c.exit = std::move(e);
    --alive_;
    ++exited_total_;
    on_exit_(c);
}

void to_wire(const child& c, v1::Exit& out) {
    out.set_child(c.id.value());
    if (!c.exit) return;
    const int status = c.exit->wait_status;
    if (!c.exit->known)
        out.set_unknown("its template ended before it could tell");
    else if (WIFSIGNALED(status)) {
        out.set_signal(WTERMSIG(status));
        out.set_core_dumped(WCOREDUMP(status));
    } else {
        out.set_code(static_cast<std::uint32_t>(WEXITSTATUS(status)));
    }
    ipc::to_wire(c.exit->usage, *out.mutable_usage());
    if (!c.exit->error.empty()) out.set_error(c.exit->error);
    out.set_wall_ns(c.exit->wall_ns);
}

}  // namespace cleanfork::daemon
