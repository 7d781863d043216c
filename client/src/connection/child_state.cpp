#include "client/src/connection/child_state.hpp"

#include "client/src/connection/connection.hpp"
#include "ipc/base/fd.hpp"
#include "ipc/base/process_ref.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::detail {

using boost::asio::posix::stream_descriptor;

namespace {

// With the mutex held. Both say that nobody tells any more; a client that was
// destroyed does not hear a forkserver that is well.
exit_status untold(const connection& c) {
    const bool by_us = c.loss() && c.loss()->error_number == ECANCELED;
    return exit_status::unknown(by_us ? "client destroyed" : "forkserver lost");
}

}  // namespace

int child_state::signal(int number) const noexcept {
    return pidfd ? ipc::pidfd_signal(pidfd.get(), number) : ESRCH;
}

std::optional<exit_status> child_state::wait(const deadline& d) {
    std::unique_lock lock(owner->mutex());
    if (status) return status;
    if (!owner->loss()) {
        waiter w;
        waiters.push_back(&w);
        owner->await(lock, w, d);
        std::erase(waiters, &w);
        if (status) return status;
        if (!owner->loss()) return std::nullopt;
    }
    lock.unlock();
    return wait_by_pidfd(d);
}

std::optional<exit_status> child_state::known() {
    bool lost = false;
    {
        const std::lock_guard lock(owner->mutex());
        if (status) return status;
        lost = owner->loss().has_value();
    }
    // A deadline long past: it does not block.
    if (lost) return wait_by_pidfd(steady::time_point());
    owner->read_available();
    const std::lock_guard lock(owner->mutex());
    return status;
}

// A zombie can be waited for, but only its parent learns how it ended: with
// exit information the wait is for POLLHUP, which comes with the reap.
std::optional<exit_status> child_state::wait_by_pidfd(const deadline& d) {
    pollfd p{pidfd.get(), static_cast<short>(owner->exit_info ? 0 : POLLIN), 0};
    if (pidfd && poll_until({&p, 1}, d) == 0) return std::nullopt;
    ended({.status = status_by_pidfd()});
    const std::lock_guard lock(owner->mutex());
    return status;
}

exit_status child_state::status_by_pidfd() const {
    if (pidfd && owner->exit_info)
        if (const auto s = ipc::pidfd_exit_status(pidfd.get()))
            return exit_status::from_wait_status(*s);
    const std::lock_guard lock(owner->mutex());
    return untold(*owner);
}

void child_state::take(wait_result&& end) {
    status = std::move(end.status);
    usage = end.usage;
    wall = end.wall;
    error = std::move(end.error);
}

void child_state::ended(wait_result&& end) {
    std::list<pending_wait> waits;
    const exit_status s = end.status;
    {
        const std::lock_guard lock(owner->mutex());
        if (status) return;
        take(std::move(end));
        for (waiter* each : waiters) each->set_ready();
        waits.swap(async_waits);
        if (!owner->loss())
            for (std::size_t i = 0; i < waits.size(); ++i) owner->drop_interest();
        watch.reset();
    }
    complete(std::move(waits), {}, s);
}

void child_state::complete(std::list<pending_wait>&& waits, boost::system::error_code ec,
                           const exit_status& s) {
    for (pending_wait& w : waits) std::move(w.done)(ec, exit_status(s));
}

void child_state::orphaned() {
    const std::lock_guard lock(owner->mutex());
    for (waiter* each : waiters) each->set_ready();
    if (!async_waits.empty()) watch_pidfd();
}

void child_state::start_wait(wait_handler handler) {
    const any_io_executor io = io_executor_for(owner->executor(), handler);
    if (!io) {
        completion<wait_handler> done(io, std::move(handler));
        return std::move(done)(make_error_code(no_executor()), exit_status());
    }
    std::optional<exit_status> now;
    {
        const std::lock_guard lock(owner->mutex());
        now = status;
        if (!now) {
            const std::uint64_t wait_id = next_wait++;
            if (auto slot = handler.get_cancellation_slot(); slot.is_connected())
                slot.assign([weak = weak_from_this(), wait_id](boost::asio::cancellation_type t) {
                    const auto self = weak.lock();
                    if (self && t != boost::asio::cancellation_type::none)
                        self->cancel_wait(wait_id);
                });
            async_waits.push_back({wait_id, io, completion<wait_handler>(io, std::move(handler))});
            if (!owner->loss())
                owner->add_interest(io);
            else if (!watch)
                watch_pidfd();
        }
    }
    if (!now) return;
    completion<wait_handler> done(io, std::move(handler));
    std::move(done)(boost::system::error_code(), std::move(*now));
}

void child_state::cancel_wait(std::uint64_t wait_id) {
    std::list<pending_wait> cancelled;
    {
        const std::lock_guard lock(owner->mutex());
        for (auto it = async_waits.begin(); it != async_waits.end(); ++it) {
            if (it->id != wait_id) continue;
            cancelled.splice(cancelled.end(), async_waits, it);
            if (!owner->loss()) owner->drop_interest();
            if (async_waits.empty()) watch.reset();
            break;
        }
    }
    complete(std::move(cancelled), boost::asio::error::operation_aborted, exit_status());
}

// With the mutex held. wait_error completes with EPOLLHUP, thus with the reap,
// and does not wake for the EPOLLIN of a zombie again and again.
void child_state::watch_pidfd() {
    unique_fd copy = ipc::dup_fd(pidfd.get());
    if (!copy) {
        const boost::system::error_code ec(errno, boost::system::system_category());
        std::list<pending_wait> waits;
        waits.swap(async_waits);
        return complete(std::move(waits), ec, exit_status());
    }
    watch = std::make_unique<stream_descriptor>(async_waits.front().io, copy.release());
    watch->async_wait(
        owner->exit_info ? stream_descriptor::wait_error : stream_descriptor::wait_read,
        [self = shared_from_this()](const boost::system::error_code& ec) { self->on_pidfd(ec); });
}

void child_state::on_pidfd(boost::system::error_code ec) {
    if (ec == boost::asio::error::operation_aborted) return;
    if (ipc::pidfd_wait(pidfd.get(), owner->exit_info, 0))
        return ended({.status = status_by_pidfd()});
    const std::lock_guard lock(owner->mutex());
    if (!status && !async_waits.empty()) watch_pidfd();
}

}  // namespace cleanfork::detail
