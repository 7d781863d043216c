#include "client/src/run/run.hpp"

#include "ipc/base/process_ref.hpp"

namespace cleanfork::detail {

namespace {

constexpr std::uint32_t k_reply_hold_us = 2000;

failure run_expired() {
    return ipc::fail(step::wait, ETIMEDOUT, {}, "it ran longer than the timeout and was killed");
}

// Moves data until `ready` is set (true) or the deadline has passed (false).
bool pump(connection& c, waiter& w, pipes& streams, const deadline& d) {
    for (;;) {
        std::unique_lock lock(c.mutex());
        const auto r = c.await(lock, w, d, streams.wanted());
        lock.unlock();
        if (r == connection::awaited::ready) return true;
        if (r == connection::awaited::timed_out) return false;
        streams.handle();
    }
}

// Until the child has ended, by the word of the forkserver.
std::optional<exit_status> pump_until_end(connection& c, child_state& child, pipes& streams,
                                          const deadline& d) {
    waiter w;
    {
        const std::lock_guard lock(c.mutex());
        if (child.status || c.loss()) return child.status;
        child.waiters.push_back(&w);
    }
    pump(c, w, streams, d);
    const std::lock_guard lock(c.mutex());
    std::erase(child.waiters, &w);
    return child.status;
}

// The same by the pidfd, once the forkserver was lost.
std::optional<exit_status> pump_until_reaped(child_state& child, pipes& streams,
                                             const deadline& d) {
    for (;;) {
        std::array<pollfd, 4> all{};
        const std::span<pollfd> wanted = streams.wanted();
        std::copy(wanted.begin(), wanted.end(), all.begin() + 1);
        const short events = child.owner->exit_info ? 0 : POLLIN;
        all[0] = {child.pidfd.get(), events, 0};
        if (poll_until({all.data(), wanted.size() + 1}, d) == 0) return std::nullopt;
        std::copy_n(all.begin() + 1, wanted.size(), wanted.begin());
        streams.handle();
        if (all[0].revents != 0) return child.wait({});
    }
}

}  // namespace

result<to_process> prepare_run(outgoing& m, const spawn_options& options, bool has_input,
                               const deadline& d) {
    if (has_input && !std::holds_alternative<stdio::pipe>(options.in))
        return ipc::fail(step::request, EINVAL, "input",
                         "input can be fed only when options.in is stdio::pipe");
    auto convert = prepare_spawn(m, options, d);
    if (convert) m->mutable_spawn()->set_reply_hold_us(k_reply_hold_us);
    return convert;
}

result<to_process> prepare_run(outgoing& m, const call_request& request, const deadline& d) {
    auto convert = prepare_call(m, request, d);
    if (convert) m->mutable_spawn()->set_reply_hold_us(k_reply_hold_us);
    return convert;
}

void kill_run(const process& child, const process_group& group) {
    const child_state& state = *connection::of(child);
    // A group that was joined holds other processes than ours.
    if (group.how != process_group::kind::join && state.pidfd) {
        const int error = ipc::pidfd_signal_group(state.pidfd.get(), SIGKILL);
        if (error == 0) return;
        if (error == EINVAL) {  // before Linux 6.9
            outgoing m;
            fill_signal(m, state.id, SIGKILL, signal_target::group);
            (void)state.owner->submit(state.owner->next_id(), m,
                                      std::make_shared<ignoring_operation>());
        }
    }
    (void)state.signal(SIGKILL);
}

call_result gathered(process& child, const exit_status& status, pipes&& streams) {
    call_result r{{status, std::move(streams.out_text), std::move(streams.err_text), child.usage(),
                   child.wall_time(), child.id()},
                  child.error(),
                  child.take_result()};
    seal_result(r.result_fd);
    return r;
}

result<call_result> run(connection& c, outgoing& m, to_process&& convert,
                        const spawn_options& attributes, std::string_view input,
                        const deadline& d) {
    using spawning = blocking_operation<to_process>;
    pipes streams(std::move(convert.ends), input);
    const auto op = std::make_shared<spawning>(std::move(convert));
    const std::uint64_t id = c.next_id();
    if (auto sent = c.submit(id, m, op); !sent) return sent.error();
    if (c.sends_blocked()) c.flush_blocking(d);

    if (!pump(c, op->waiting, streams, d)) {
        if (!settle(c, id, op)) return to_process::expired();
        if (!*op->outcome) return op->outcome->error();
        kill_run(**op->outcome, attributes.group);
        return run_expired();
    }
    if (!*op->outcome) return op->outcome->error();
    process child = std::move(**op->outcome);
    child_state& state = *connection::of(child);
    auto status = pump_until_end(c, state, streams, d);
    if (!status && c.lost()) status = pump_until_reaped(state, streams, d);
    if (!status) {
        kill_run(child, attributes.group);
        return run_expired();
    }
    streams.finish();
    return gathered(child, *status, std::move(streams));
}

}  // namespace cleanfork::detail
