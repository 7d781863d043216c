#include "forkserver/daemon/children/child_table.hpp"

#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <csignal>

#include "ipc/base/pidfd.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/usage.hpp"

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

namespace cleanfork::daemon {

namespace {

constexpr int k_exits_at_once = 256;

// The raw call: libc's waitid has no place for the rusage.
long wait_pidfd(int pidfd, siginfo_t& info, rusage& usage, int options) noexcept {
    return ipc::retry(
        [&] { return ::syscall(SYS_waitid, P_PIDFD, pidfd, &info, options, &usage); });
}

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
    c.id = next_id_++;
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = c.id;
    if (::epoll_ctl(watch_.native_handle(), EPOLL_CTL_ADD, c.pidfd.get(), &event) != 0) {
        const int e = errno;
        ipc::pidfd_signal(c.pidfd.get(), SIGKILL);
        siginfo_t info{};
        rusage usage{};
        wait_pidfd(c.pidfd.get(), info, usage, WEXITED);
        return ipc::fail(step::prepare, e, "pidfd",
                         "the child could not be watched and was killed");
    }
    ++alive_;
    c.watched = true;
    const std::uint64_t id = c.id;
    return &children_.emplace_hint(children_.end(), id, std::move(c))->second;
}

child* child_table::find(std::uint64_t id) {
    const auto at = children_.find(id);
    return at == children_.end() ? nullptr : &at->second;
}

void child_table::forget(std::uint64_t id) { children_.erase(id); }

void child_table::each(const std::function<void(child&)>& f) {
    for (auto& [id, c] : children_) f(c);
}

std::vector<std::uint64_t> child_table::of_session(std::uint64_t session) const {
    std::vector<std::uint64_t> ids;
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
            if (child* c = find(events[i].data.u64)) reap_if_ended(*c);
        if (n < k_exits_at_once) break;
    }
    on_drained_();
}

child* child_table::add_of_template(child c) {
    c.id = next_id_++;
    ++alive_;
    const std::uint64_t id = c.id;
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
    event.data.u64 = c.id;
    // Without memory for the watch it is killed, and found with the orphans.
    c.watched = ::epoll_ctl(watch_.native_handle(), EPOLL_CTL_ADD, c.pidfd.get(), &event) == 0;
    if (!c.watched) ipc::pidfd_signal(c.pidfd.get(), SIGKILL);
}

void child_table::reap_if_ended(child& c) {
    if (c.exit) return;
    siginfo_t info{};
    rusage usage{};
    const bool waited = wait_pidfd(c.pidfd.get(), info, usage, WEXITED | WNOHANG) == 0;
    if (waited && info.si_pid == 0) return;
    child_exit e{0, usage, ipc::monotonic_ns() - c.started_ns, {}};
    if (waited) {
        e.wait_status = ipc::wait_status_of(info);
    } else {
        // A template reaped it and was killed before it could tell.
        const auto status = ipc::pidfd_exit_status(c.pidfd.get());
        e.known = status.has_value();
        e.wait_status = status.value_or(0);
    }
    exited(c, std::move(e));
}

void child_table::exited(child& c, child_exit e) {
    // The client holds a copy of the pidfd, so closing ours would not end the watch.
    if (c.watched) ::epoll_ctl(watch_.native_handle(), EPOLL_CTL_DEL, c.pidfd.get(), nullptr);
    c.exit = std::move(e);
    --alive_;
    ++exited_total_;
    on_exit_(c);
}

void to_wire(const child& c, v1::Exit& out) {
    out.set_child(c.id);
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
