#include <poll.h>

#include <cleanfork/process.hpp>

#include "client/src/requests/operations.hpp"
#include "ipc/base/process_ref.hpp"

namespace cleanfork {

using namespace detail;

namespace {

failure no_child(step s) {
    return ipc::fail(s, ESRCH, "process", "this handle refers to no child");
}

}  // namespace

pid_t process::id() const noexcept { return state_ ? state_->pid : 0; }

std::uint64_t process::child_id() const noexcept { return state_ ? state_->id : 0; }

int process::native_handle() const noexcept { return state_ ? state_->pidfd.get() : -1; }

process::executor_type process::get_executor() const noexcept {
    return state_ ? state_->owner->executor() : executor_type();
}

exit_status process::wait() const {
    if (!state_) throw spawn_error(no_child(step::wait));
    // Without a deadline there is always a status.
    return state_->wait({}).value_or(exit_status());
}

exit_status process::wait(boost::system::error_code& ec) const {
    ec = state_ ? boost::system::error_code() : make_error_code(no_child(step::wait));
    return ec ? exit_status() : wait();
}

std::optional<exit_status> process::wait_for(std::chrono::nanoseconds t) const {
    if (!state_) throw spawn_error(no_child(step::wait));
    return state_->wait(deadline_after(t));
}

void process::start_wait(const std::shared_ptr<child_state>& state, wait_handler handler) {
    if (state) return state->start_wait(std::move(handler));
    completion<wait_handler> done(io_executor_for({}, handler), std::move(handler));
    std::move(done)(make_error_code(no_child(step::wait)), exit_status());
}

bool process::running() const {
    if (!state_) return false;
    {
        const std::lock_guard lock(state_->owner->mutex());
        if (state_->status) return false;
    }
    return !ipc::pidfd_wait(state_->pidfd.get(), false, 0);
}

std::optional<exit_status> process::status() const {
    return state_ ? state_->known() : std::nullopt;
}

resource_usage process::usage() const {
    if (!state_) return {};
    const std::lock_guard lock(state_->owner->mutex());
    return state_->usage;
}

std::chrono::nanoseconds process::wall_time() const {
    if (!state_) return {};
    const std::lock_guard lock(state_->owner->mutex());
    return state_->wall;
}

std::string process::error() const {
    if (!state_) return {};
    const std::lock_guard lock(state_->owner->mutex());
    return state_->error;
}

void process::signal(int number, boost::system::error_code& ec) const {
    const int e = state_ ? state_->signal(number) : ESRCH;
    ec = e == 0 ? boost::system::error_code() : make_error_code(ipc::fail(step::signal, e));
}

void process::signal(int number) const {
    const int e = state_ ? state_->signal(number) : ESRCH;
    if (e != 0)
        throw spawn_error(ipc::fail(step::signal, e, state_ ? std::to_string(state_->pid) : ""));
}

void process::signal_group(int number) const {
    if (!state_) throw spawn_error(no_child(step::signal));
    if (const auto r = detail::signal_group(*state_, number, {}); !r) throw spawn_error(r.error());
}

}  // namespace cleanfork
