#include "client/src/connection/child_state.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "ipc/base/fd.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/lease.hpp"

namespace cleanfork::detail {

namespace {

// Of two: that it begins, and that it has returned.
constexpr std::size_t k_most_words = 2 * (sizeof(ipc::lease_word) + ipc::k_max_lease_text);

}  // namespace

// A blocked thread among those that the end of the child wakes.
class child_state::blocked_wait {
public:
    blocked_wait(child_state& child, const tables_lock& held) : child_(child) {
        child_.shared_(held).waiters.push_back(&waiting);
    }
    blocked_wait(const blocked_wait&) = delete;
    blocked_wait& operator=(const blocked_wait&) = delete;
    ~blocked_wait() { std::erase(child_.shared_(child_.owner_->lock()).waiters, &waiting); }

    waiter waiting;

private:
    child_state& child_;
};

void child_state::leftovers::tell(const exit_status& s) {
    for (pending_wait& w : waits) std::move(w.done)(why, exit_status(s));
}

// ---- blocking --------------------------------------------------------------

result<void> child_state::signal(int number) const {
    if (const int error = process_.signal(number); error != 0)
        return ipc::fail(step::signal, error, std::to_string(process_.pid()));
    return {};
}

std::optional<wait_result> child_state::end() const { return shared_(owner_->lock()).end; }

std::optional<exit_status> child_state::told() const {
    const auto held = owner_->lock();
    const auto& end = shared_(held).end;
    return end ? std::optional(end->status) : std::nullopt;
}

std::optional<exit_status> child_state::wait(const deadline& d, const meanwhile& work) {
    {
        std::optional<blocked_wait> wait;
        {
            const auto held = owner_->lock();
            if (const auto& end = shared_(held).end) return end->status;
            if (!held->loss) wait.emplace(*this, held);
        }
        if (wait) block(*owner_, wait->waiting, d, work);
    }
    if (auto status = told()) return status;
    if (!owner_->lost()) return std::nullopt;
    return wait_by_pidfd(d, work);
}

std::optional<exit_status> child_state::known() {
    if (auto status = told()) return status;
    // A deadline long past: it does not block.
    if (owner_->lost()) return wait_by_pidfd(steady::time_point(), {});
    owner_->read_available();
    return told();
}

// A zombie can be waited for, but only its parent learns how it ended: where the
// pidfd tells the exit the wait is for POLLHUP, which comes with the reap.
std::optional<exit_status> child_state::wait_by_pidfd(const deadline& d, const meanwhile& work) {
    const bool tells = owner_->facts().pidfd_tells_exit;
    pollfd p{process_.pidfd(), static_cast<short>(tells ? 0 : POLLIN), 0};
    if (process_ && block_on(p, d, work) != blocked::ready) return std::nullopt;
    ended({.status = status_by_pidfd()});
    return told();
}

exit_status child_state::status_by_pidfd() const {
    if (process_ && owner_->facts().pidfd_tells_exit && !traits_.restarts)
        if (const auto s = ipc::pidfd_exit_status(process_.pidfd()))
            return exit_status::from_wait_status(*s);
    // A client that was destroyed does not hear a forkserver that is well.
    const auto held = owner_->lock();
    const bool by_us = held->loss && held->loss->error_number == ECANCELED;
    return exit_status::unknown(by_us ? "client destroyed" : "forkserver lost");
}

// ---- what the connection tells ---------------------------------------------

void child_state::ended(wait_result&& end) {
    const exit_status status = end.status;
    leftovers rest;
    {
        const auto held = owner_->lock();
        shared& s = shared_(held);
        if (s.end) return;
        if (s.called)
            end.wall = std::min<std::chrono::nanoseconds>(end.wall, steady::now() - *s.called);
        s.end = std::move(end);
        for (waiter* each : s.waiters) each->set_ready(held);
        rest.waits.swap(s.waits);
        if (!held->loss)
            for (std::size_t i = 0; i < rest.waits.size(); ++i) owner_->drop_interest(held);
        rest.watch = std::move(s.watch);
    }
    rest.tell(status);
}

void child_state::orphaned() {
    leftovers rest;
    {
        const auto held = owner_->lock();
        shared& s = shared_(held);
        for (waiter* each : s.waiters) each->set_ready(held);
        if (!s.waits.empty()) rest = watch_pidfd(held);
    }
    rest.tell();
}

std::list<pending_wait> child_state::give_up_waits(const tables_lock& held) {
    return std::exchange(shared_(held).waits, {});
}

// ---- asynchronous ----------------------------------------------------------

void child_state::start_wait(wait_handler handler) {
    const any_io_executor io = io_executor_for(owner_->executor(), handler);
    if (!io) {
        completion<wait_handler> done(io, std::move(handler));
        return std::move(done)(make_error_code(no_executor()), exit_status());
    }
    leftovers rest;
    std::optional<exit_status> now;
    {
        const auto held = owner_->lock();
        if (const auto& end = shared_(held).end)
            now = end->status;
        else
            rest = add_wait(held, io, std::move(handler));
    }
    rest.tell();
    if (!now) return;
    completion<wait_handler> done(io, std::move(handler));
    std::move(done)(boost::system::error_code(), std::move(*now));
}

child_state::leftovers child_state::add_wait(const tables_lock& held, const any_io_executor& io,
                                             wait_handler&& handler) {
    shared& s = shared_(held);
    const std::uint64_t number = s.next_wait++;
    if (auto slot = handler.get_cancellation_slot(); slot.is_connected())
        slot.assign([weak = weak_from_this(), number](boost::asio::cancellation_type t) {
            const auto self = weak.lock();
            if (self && t != boost::asio::cancellation_type::none) self->cancel_wait(number);
        });
    s.waits.push_back({number, io, completion<wait_handler>(io, std::move(handler))});
    if (!held->loss) {
        owner_->add_interest(held, io);
        return {};
    }
    return s.watch ? leftovers() : watch_pidfd(held);
}

void child_state::cancel_wait(std::uint64_t number) {
    leftovers rest;
    rest.why = boost::asio::error::operation_aborted;
    {
        const auto held = owner_->lock();
        shared& s = shared_(held);
        const auto found = std::find_if(s.waits.begin(), s.waits.end(),
                                        [&](const auto& w) { return w.number == number; });
        if (found == s.waits.end()) return;
        rest.waits.splice(rest.waits.end(), s.waits, found);
        if (!held->loss) owner_->drop_interest(held);
        if (s.waits.empty()) rest.watch = std::move(s.watch);
    }
    rest.tell();
}

// For the first of the waits, of which there are some. wait_error completes with EPOLLHUP,
// thus with the reap, and does not wake for the EPOLLIN of a zombie again and again.
child_state::leftovers child_state::watch_pidfd(const tables_lock& held) {
    shared& s = shared_(held);
    leftovers rest;
    unique_fd copy = ipc::dup_fd(process_.pidfd());
    if (!copy) {
        rest.why = {errno, boost::system::system_category()};
        rest.waits.swap(s.waits);
        return rest;
    }
    rest.watch = std::exchange(
        s.watch, std::make_unique<stream_descriptor>(s.waits.front().io, copy.release()));
    s.watch->async_wait(
        owner_->facts().pidfd_tells_exit ? stream_descriptor::wait_error
                                         : stream_descriptor::wait_read,
        [self = shared_from_this()](const boost::system::error_code& ec) { self->on_pidfd(ec); });
    return rest;
}

void child_state::on_pidfd(boost::system::error_code ec) {
    if (ec == boost::asio::error::operation_aborted) return;
    const auto told =
        owner_->facts().pidfd_tells_exit ? ipc::pidfd_event::reaped : ipc::pidfd_event::ended;
    if (ipc::pidfd_wait(process_.pidfd(), told, 0)) return ended({.status = status_by_pidfd()});
    leftovers rest;
    {
        const auto held = owner_->lock();
        const shared& s = shared_(held);
        if (!s.end && !s.waits.empty()) rest = watch_pidfd(held);
    }
    rest.tell();
}

// ---- its answer ------------------------------------------------------------

// The child's words are a peer's: what is none of them is passed over, to the end of what has come.
void child_state::take_words(const tables_lock& held, std::string_view bytes) {
    shared& s = shared_(held);
    s.words.append(bytes.substr(0, k_most_words - std::min(k_most_words, s.words.size())));
    std::string_view left = s.words;
    while (const auto m = ipc::take_lease_word(left))
        if (m->word.kind == ipc::lease_word_kind::returned && !s.answer)
            s.answer = call_answer{m->word.code, m->text};
    s.words.erase(0, s.words.size() - left.size());
}

// False at the end of the pipe.
bool child_state::read_words(const tables_lock& held) {
    char bytes[k_most_words];
    for (;;) {
        const ssize_t n = ipc::retry([&] { return ::read(words_.get(), bytes, sizeof bytes); });
        if (n < 0) return errno == EAGAIN;
        if (n == 0) return false;
        take_words(held, {bytes, static_cast<std::size_t>(n)});
    }
}

// A descendant may have the pipe when the child has ended.
std::optional<call_answer> child_state::wait_answer(const deadline& d) {
    for (;;) {
        const bool ended =
            process_ ? ipc::pidfd_wait(process_.pidfd(), ipc::pidfd_event::ended, 0) : true;
        {
            const auto held = owner_->lock();
            const bool open = !shared_(held).answer && read_words(held);
            if (!open || ended || shared_(held).answer) return shared_(held).answer;
        }
        pollfd both[] = {{words_.get(), POLLIN, 0}, {process_.pidfd(), POLLIN, 0}};
        if (poll_until(both, d) == 0 && passed(d)) return std::nullopt;
    }
}

// ---- from a reply ----------------------------------------------------------

process adopt(connection& c, ipc::child_id id, ipc::process_ref p, parent_ends&& ends,
              child_traits traits) {
    auto child = std::make_shared<child_state>(c.shared_from_this(), id, std::move(p), traits);
    child->hear(std::move(ends.words));
    c.expect_exit(id, child);
    return connection::make_process(std::move(child), std::move(ends));
}

process adopt_ended(connection& c, ipc::child_id id, ipc::process_ref p, parent_ends&& ends,
                    child_traits traits, wait_result&& end) {
    auto child = std::make_shared<child_state>(c.shared_from_this(), id, std::move(p), traits);
    child->hear(std::move(ends.words));
    child->ended(std::move(end));
    c.acknowledge(id);
    return connection::make_process(std::move(child), std::move(ends));
}

}  // namespace cleanfork::detail
