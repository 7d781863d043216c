// A forkserver that does not tell what it owes: whether the child was started, and how it ended.
#include "client/cli/foreground/runner.hpp"
#include "client/cli/options/exit_codes.hpp"

namespace cleanfork::cli {

namespace {

// A status is worth more patience than a start: it cannot be had again.
constexpr std::chrono::seconds k_patience_for_status(60);

}  // namespace

// A child that was begun all the same meets its lifetime, with the end of this session.
void runner::nobody_starts() {
    report_.failed(silence_of(client_, socket_));
    finish(k_exit_failed);
}

// The kernel's signal at the forkserver's death is forgotten when the child executes a set-user-ID
// program. A wait of our own fails at that moment.
void runner::watch_server() {
    const int number = request_.options.parent_death_signal;
    if (number == 0) return;
    client_.async_wait(child_.child_id(),
                       [this, number](const std::exception_ptr& error, const wait_result&) {
                           boost::system::error_code ended_before;
                           if (error && !ended_) child_.signal(number, ended_before);
                       });
}

// The kernel tells of the end as well, by the pidfd; only the status is the forkserver's.
void runner::watch_end() {
    if (child_.native_handle() < 0) return;
    end_ready_.emplace(io_, child_.native_handle(), readiness::direction::read);
    end_ready_->async_wait([this] {
        if (ended_) return;
        late_.expires_after(gave_up_ != 0 ? k_patience_of_a_person : k_patience);
        late_.async_wait([this](const boost::system::error_code& ec) {
            if (!ec && !ended_) end_is_late();
        });
    });
}

void runner::end_is_late() {
    const std::string whom = name_of_server(client_, socket_);
    const std::string state = state_of_server(client_.server().pid);
    if (gave_up_ != 0 || told_late_)
        return give_up("the child has ended, and " + whom + " does not tell how: " + state);
    told_late_ = true;
    report_.note("the child has ended; waiting for " + whom + " to tell how: " + state);
    late_.expires_after(k_patience_for_status);
    late_.async_wait([this](const boost::system::error_code& ec) {
        if (!ec && !ended_) end_is_late();
    });
}

void runner::give_up(const std::string& why) {
    report_.error(why);
    finish(gave_up_ != 0 ? code_of_signal(gave_up_) : k_exit_failed);
}

}  // namespace cleanfork::cli
