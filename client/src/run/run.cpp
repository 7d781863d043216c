#include "client/src/run/run.hpp"

#include "client/src/connection/child_state.hpp"
#include "client/src/requests/blocking_call.hpp"
#include "client/src/requests/leased_call.hpp"
#include "client/src/requests/server_requests.hpp"

namespace cleanfork::detail {

namespace {

constexpr std::uint32_t k_reply_hold_us = 2000;

failure run_expired() {
    return ipc::fail(step::wait, ETIMEDOUT, {}, "it ran longer than the timeout and was ended");
}

void signal_run(const process& child, const process_group& group, int number) {
    const child_state& state = *connection::of(child);
    // A group that was joined holds other processes than ours.
    if (group.how != process_group::kind::join && state.process()) {
        const int error = state.process().signal_group(number);
        if (error == 0) return;
        if (error == EINVAL) {  // before Linux 6.9
            (void)tell<signal_request>(state.owner(), state.id(), number, signal_target::group);
            if (number != SIGKILL) return;
        }
    }
    (void)state.process().signal(number);
}

// Its timeout has passed. Its output is still read while it has its grace, so that it can end.
void end_run(const process& child, const spawn_options& options, const meanwhile& work) {
    if (options.timeout_signal != SIGKILL) {
        signal_run(child, options.group, options.timeout_signal);
        signal_run(child, options.group, SIGCONT);
        if (connection::of(child)->wait(deadline_after(options.timeout_grace), work)) return;
    }
    kill_run(child, options.group);
}

template <class Target>
result<spawn_request> fill_held(outgoing& m, const deadline& d, const Target& target) {
    auto request = spawn_request::fill(m, d, target);
    if (request) m->mutable_spawn()->set_reply_hold_us(k_reply_hold_us);
    return request;
}

result<call_result> run_filled(connection& c, outgoing& m, spawn_request&& request,
                               const spawn_options& options, std::string_view input,
                               const deadline& d) {
    pipes streams(std::move(request.ends), input);
    blocking_call<spawn_request> spawn(c, std::move(request));
    if (auto sent = spawn.send(m); !sent) return sent.error();
    const meanwhile work{.served = &streams};

    const bool in_time = spawn.wait(d, work) == blocked::ready;
    auto child = in_time ? spawn.take() : spawn.late();
    if (!child) return child.error();
    if (in_time)
        if (const auto status = connection::of(*child)->wait(d, work)) {
            streams.finish();
            return gathered(*child, *status, std::move(streams));
        }
    end_run(*child, options, work);
    return run_expired();
}

result<call_result> run_program(const std::shared_ptr<connection>& c, const program_run& what,
                                const timeout& t) {
    if (!c) return not_connected();
    const deadline d = deadline_after(t);
    outgoing m;
    auto request = fill_run(m, d, what);
    if (!request) return request.error();
    return run_filled(*c, m, std::move(*request), what.attributes(), what.input, d);
}

}  // namespace

result<spawn_request> fill_run(outgoing& m, const deadline& d, const program_run& run) {
    if (!run.input.empty() && !std::holds_alternative<stdio::pipe>(run.options.in))
        return ipc::fail(step::request, EINVAL, "input",
                         "input can be fed only when options.in is stdio::pipe");
    return fill_held(m, d, run.options);
}

result<spawn_request> fill_run(outgoing& m, const deadline& d, const entry_run& run) {
    return fill_held(m, d, run.call);
}

result<call_result> run(const std::shared_ptr<connection>& c, const program_run& what,
                        const timeout& t) {
    return run_program(c, what, t);
}

namespace {

// None: nothing of it has run.
std::optional<result<call_result>> run_leased(connection& c, const lease& l, const outgoing& m,
                                              const std::string& kind, parent_ends&& ends,
                                              const spawn_options& options, const deadline& d) {
    pipes streams(std::move(ends), {});
    process child = connection::make_process(l.child, {.result = std::move(ends.result)});
    const meanwhile work{.served = &streams};
    // Of most calls the forkserver learns when they are over: that keeps nobody waiting.
    const auto soon = steady::now() + std::chrono::microseconds(k_reply_hold_us);
    auto status = l.child->wait(d ? std::min(*d, soon) : soon, work);
    const bool was_soon = status.has_value();
    if (was_soon && !had_begun(l)) return std::nullopt;
    refill(c, kind, m, l.child.get());
    if (!was_soon) status = l.child->wait(d, work);
    if (!was_soon && status && !had_begun(l)) return std::nullopt;
    if (status) {
        streams.finish();
        return gathered(child, *status, std::move(streams));
    }
    end_run(child, options, work);
    return run_expired();
}

}  // namespace

result<call_result> run(const std::shared_ptr<connection>& c, const entry_run& what,
                        const timeout& t) {
    if (!c) return not_connected();
    const deadline d = deadline_after(t);
    for (bool may_lease = what.call.options.leased;; may_lease = false) {
        outgoing m;
        auto request = fill_run(m, d, what);
        if (!request) return request.error();
        if (auto r = c->follow(m); !r) return r.error();
        const std::string kind = what.call.options.leased ? kind_of(m.spawn()) : std::string();
        const auto l = may_lease ? send_to_lease(*c, kind, m, false) : std::nullopt;
        if (!l) {
            auto ended = run_filled(*c, m, std::move(*request), what.attributes(), what.input, d);
            if (ended || !may_lease) refill(*c, kind, m, nullptr);  // as in call_entry()
            return ended;
        }
        m.descriptors.close_owned();
        if (auto ended =
                run_leased(*c, *l, m, kind, std::move(request->ends), what.attributes(), d))
            return std::move(*ended);
    }
}

void kill_run(const process& child, const process_group& group) {
    signal_run(child, group, SIGKILL);
}

call_result gathered(process& child, const exit_status& status, pipes&& streams) {
    call_result r{{status, std::move(streams.out_text), std::move(streams.err_text), child.usage(),
                   child.wall_time(), child.id()},
                  child.error(),
                  child.take_result()};
    seal_result(r.result_fd);
    return r;
}

}  // namespace cleanfork::detail
