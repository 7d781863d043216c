#include <cleanfork/process.hpp>
#include <cleanfork/pseudo_terminal.hpp>

#include "client/src/connection/child_state.hpp"
#include "client/src/requests/server_requests.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork {

using namespace detail;

namespace {

failure no_child(step s) {
    return ipc::fail(s, ESRCH, "process", "this handle refers to no child");
}

// Which process it is by now, and that it is to be the last, the forkserver knows.
bool asks_forkserver(const child_state& child) {
    return child.traits().restarts && !child.owner().lost();
}

result<void> send_signal(const std::shared_ptr<child_state>& state, int number) {
    if (!state) return no_child(step::signal);
    if (asks_forkserver(*state))
        return signal_by_forkserver(*state, number, signal_target::process, {});
    return state->signal(number);
}

// What is told of the end; nothing while that is unknown.
wait_result end_of(const std::shared_ptr<child_state>& state) {
    return (state ? state->end() : std::nullopt).value_or(wait_result());
}

}  // namespace

pid_t process::id() const noexcept { return state_ ? state_->process().pid() : 0; }

std::uint64_t process::child_id() const noexcept { return state_ ? state_->id().value() : 0; }

int process::native_handle() const noexcept { return state_ ? state_->process().pidfd() : -1; }

process::executor_type process::get_executor() const noexcept {
    return state_ ? state_->owner().executor() : executor_type();
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

std::optional<call_answer> process::wait_answer(
    std::optional<std::chrono::nanoseconds> within) const {
    if (!state_) throw spawn_error(no_child(step::wait));
    if (!state_->hears())
        throw spawn_error(ipc::fail(step::wait, EINVAL, "answer",
                                    "the call was made without call_options::answer"));
    return state_->wait_answer(deadline_after(within));
}

bool process::running() const {
    if (state_ && asks_forkserver(*state_)) return !state_->known();
    return state_ && !state_->end() &&
           !ipc::pidfd_wait(state_->process().pidfd(), ipc::pidfd_event::ended, 0);
}

std::optional<exit_status> process::status() const {
    return state_ ? state_->known() : std::nullopt;
}

resource_usage process::usage() const { return end_of(state_).usage; }

std::chrono::nanoseconds process::wall_time() const { return end_of(state_).wall; }

std::string process::error() const { return end_of(state_).error; }

void process::signal(int number, boost::system::error_code& ec) const {
    const auto sent = send_signal(state_, number);
    ec = sent ? boost::system::error_code() : make_error_code(sent.error());
}

void process::signal(int number) const { send_signal(state_, number).value(); }

void process::signal_group(int number) const {
    if (!state_) throw spawn_error(no_child(step::signal));
    detail::signal_group(*state_, number, {}).value();
}

void process::leave_rest() const {
    if (state_ && state_->known()) state_->owner().leave_rest(state_->id());
}

void process::resize(unsigned short rows, unsigned short columns) const {
    resize_pty(pty(), rows, columns).value();
}

void process::resize(unsigned short rows, unsigned short columns,
                     boost::system::error_code& ec) const {
    const auto done = resize_pty(pty(), rows, columns);
    ec = done ? boost::system::error_code() : make_error_code(done.error());
}

void process::signal_tree(int number) const {
    if (!state_) throw spawn_error(no_child(step::signal));
    signal_by_forkserver(*state_, number, signal_target::tree, {}).value();
}

tree_means process::tree() const noexcept {
    return state_ ? state_->traits().tree : tree_means::none;
}

}  // namespace cleanfork
