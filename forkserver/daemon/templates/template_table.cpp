#include "forkserver/daemon/templates/template_table.hpp"

#include <algorithm>
#include <csignal>

#include "ipc/base/process_ref.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/defaults.hpp"
#include "ipc/wire/limits.hpp"

namespace cleanfork::daemon {

using std::chrono::milliseconds;

namespace {

milliseconds or_default(std::uint32_t ms, milliseconds d) { return ms != 0 ? milliseconds(ms) : d; }

result<void> check(const v1::AddTemplateRequest& r) {
    if (r.name().empty() || r.name().size() > ipc::k_max_name ||
        std::any_of(r.name().begin(), r.name().end(),
                    [](char c) { return static_cast<unsigned char>(c) <= ' ' || c == 127; }))
        return ipc::fail(step::template_name, EINVAL, r.name(),
                         "a name has 1 to 255 characters, no blank or control character");
    if (r.warm() > ipc::k_max_warm)
        return ipc::fail(step::request, E2BIG, "warm",
                         "at most " + std::to_string(ipc::k_max_warm) + " warm children");
    const bool derived = !r.from().empty();
    if (derived ? !r.process().has_call() : !r.process().has_exec())
        return ipc::fail(step::request, EINVAL, "process",
                         derived ? "a derived template is made by an initializer of its base"
                                 : "a template is made by a program");
    if (derived && r.from() == r.name())
        return ipc::fail(step::template_name, EINVAL, r.name(), "it cannot be derived from itself");
    return {};
}

}  // namespace

template_table::template_table(boost::asio::io_context& io, spawn::launcher& launcher,
                               child_table& children, logger& log, template_table_owner& owner)
    : io_(io),
      launcher_(launcher),
      children_(children),
      log_(log),
      owner_(owner),
      sweep_(io),
      refill_(io) {}

// ---- requests --------------------------------------------------------------

result<void> template_table::add(v1::AddTemplateRequest& r, std::vector<int> purposes,
                                 std::vector<unique_fd> descriptors,
                                 std::shared_ptr<const spawn::session_base> base,
                                 session_id session, request_id request) {
    if (auto checked = check(r); !checked) return checked;
    if (!entries_.contains(r.name()) && entries_.size() >= ipc::k_max_templates)
        return ipc::fail(step::quota, EDQUOT, "templates",
                         "RESOURCE_EXHAUSTED: at most " + std::to_string(ipc::k_max_templates));
    auto spec = std::make_shared<template_spec>();
    spec->name = r.name();
    spec->from = r.from();
    spec->purposes = std::move(purposes);
    spec->descriptors = std::make_shared<const std::vector<unique_fd>>(std::move(descriptors));
    spec->base = std::move(base);
    spec->warm = r.warm();
    spec->start_timeout = or_default(r.start_timeout_ms(), ipc::k_default_start_timeout);
    spec->call_timeout = or_default(r.call_timeout_ms(), ipc::k_default_call_timeout);
    spec->allowed_descriptors.assign(r.allowed_descriptors().begin(),
                                     r.allowed_descriptors().end());
    spec->tolerate_unclean = r.tolerate_unclean();
    if (r.ends_with_session()) spec->owner = session;
    spec->process.Swap(r.mutable_process());
    // A template's start has no reply to hold.
    spec->process.clear_reply_hold_us();
    entry& e = entries_[spec->name];
    e.spec = std::move(spec);
    v1::ServerMessage reply;
    reply.set_request_id(request.value());
    reply.mutable_add_template();
    e.replies.emplace_back(session, std::move(reply));
    start(e);
    if (r.no_wait()) settled(e, {});
    return {};
}

result<void> template_table::add_early(const std::string& name, int pid, unique_fd control) {
    auto spec = std::make_shared<template_spec>();
    spec->name = name;
    spec->start_timeout = ipc::k_default_start_timeout;
    spec->call_timeout = ipc::k_default_call_timeout;
    spec->early = true;
    ipc::process_ref process = launcher_.own_process({pid, ipc::pidfd_open(pid)});
    if (!process) return ipc::fail(step::template_start, errno, name);
    child_origin origin;
    origin.command = name;
    entry& e = entries_[name];
    e.spec = spec;
    e.number = 1;
    origin.process_of = next_id_;
    auto added = children_.add(std::move(origin), std::move(process), ipc::monotonic_ns());
    if (!added) return added.error();
    e.next = std::make_unique<generation>(io_, launcher_, static_cast<generation_owner&>(*this),
                                          e.spec, next_id_.take_next(), e.number,
                                          std::move(control), unique_fd());
    e.next->process_began((*added)->id, pid, (*added)->process.pidfd());
    arm_sweep();
    return {};
}

failure template_table::unknown(const std::string& name) const {
    std::string known;
    for (const auto& [n, e] : entries_) known += (known.empty() ? "" : ", ") + n;
    return ipc::fail(step::template_name, ENOENT, name,
                     known.empty() ? "the forkserver has no templates"
                                   : "there is no template of that name; there are: " + known);
}

result<void> template_table::reload(const std::string& name, session_id session, request_id request,
                                    bool wait) {
    const auto at = entries_.find(name);
    if (at == entries_.end()) return unknown(name);
    entry& e = at->second;
    if (e.spec->early)
        return ipc::fail(step::template_name, ENOTSUP, name,
                         "it was forked from a running program and cannot be started again");
    v1::ServerMessage reply;
    reply.set_request_id(request.value());
    reply.mutable_reload_template();
    e.replies.emplace_back(session, std::move(reply));
    start(e);
    if (!wait) settled(e, {});
    return {};
}

result<void> template_table::remove(const std::string& name) {
    const auto at = entries_.find(name);
    if (at == entries_.end()) return unknown(name);
    entry& e = at->second;
    const failure why = ipc::fail(step::template_name, ECANCELED, name, "it was removed");
    fail_waiting(e, why);
    settled(e, why);
    for (auto& g : e.old) leaving_.push_back(std::move(g));
    for (auto* g : {&e.current, &e.next})
        if (*g) leaving_.push_back(std::move(*g));
    entries_.erase(at);
    for (auto& g : leaving_) g->retire();
    log_.info("template_removed", {{"template", name}});
    later();
    return {};
}

result<void> template_table::list(const std::string& name, v1::ListTemplatesReply& out) const {
    if (!name.empty() && !entries_.contains(name)) return unknown(name);
    for (const auto& [n, e] : entries_)
        if (name.empty() || n == name) info(e, *out.add_templates());
    return {};
}

void template_table::info(const entry& e, v1::TemplateInfo& out) const {
    out.set_name(e.spec->name);
    out.set_command(spawn::command_of(e.spec->process));
    out.set_from(e.spec->from);
    out.set_warm_wanted(static_cast<std::uint32_t>(e.spec->warm));
    if (e.last_error.step != step::none) ipc::to_wire(e.last_error, *out.mutable_last_error());
    out.set_stderr_tail(e.last_messages);
    out.set_restarts(e.restarts);
    out.set_calls_total(e.calls_total);
    out.set_waiting(e.waiting.size());
    if (e.restart_at != generation::clock::time_point{}) {
        const auto left =
            std::chrono::duration_cast<milliseconds>(e.restart_at - generation::clock::now());
        out.set_retry_in_ms(static_cast<std::uint64_t>(std::max<std::int64_t>(left.count(), 1)));
    }
    if (e.next) e.next->to_wire(*out.add_generations());
    if (e.current) e.current->to_wire(*out.add_generations());
    for (auto g = e.old.rbegin(); g != e.old.rend(); ++g) (*g)->to_wire(*out.add_generations());
    out.set_generation(e.current ? e.current->number() : 0);
    out.set_state(e.current                               ? v1::TEMPLATE_STATE_READY
                  : e.next                                ? v1::TEMPLATE_STATE_STARTING
                  : e.state == generation::state::refused ? v1::TEMPLATE_STATE_REFUSED
                                                          : v1::TEMPLATE_STATE_FAILED);
}

// ---- calls -----------------------------------------------------------------

void template_table::call(queued_spawn q) {
    const auto at = entries_.find(q.request->call().template_name());
    if (at == entries_.end()) {
        const failure why = unknown(q.request->call().template_name());
        return owner_.on_call_failed(std::move(q), why);
    }
    entry& e = at->second;
    ++e.calls_total;
    call_now(e, std::move(q));
}

void template_table::call_now(entry& e, queued_spawn q) {
    if (e.current && e.waiting.empty() && e.current->room()) return e.current->call(std::move(q));
    if (!e.current && !e.next) {
        failure why = e.last_error;
        why.detail += (why.detail.empty() ? "" : "; ");
        why.detail += "template " + e.spec->name + " has failed";
        return call_refused(std::move(q), why);
    }
    e.waiting.push_back(std::move(q));
    arm_sweep();
}

void template_table::serve_waiting(entry& e) {
    while (!e.waiting.empty() && e.current && e.current->room()) {
        queued_spawn q = std::move(e.waiting.front());
        e.waiting.pop_front();
        if (is_late(q))
            owner_.on_call_failed(std::move(q), late_failure());
        else
            e.current->call(std::move(q));
    }
}

void template_table::fail_waiting(entry& e, const failure& why) {
    std::deque<queued_spawn> all;
    all.swap(e.waiting);
    for (queued_spawn& q : all) call_refused(std::move(q), why);
}

std::vector<queued_spawn> template_table::take_back(session_id session, request_id request) {
    std::vector<queued_spawn> taken;
    for (auto& [name, e] : entries_) {
        for (auto at = e.waiting.begin(); at != e.waiting.end();) {
            const bool meant =
                !at->becomes && at->session == session && (!request || at->request_id == request);
            if (meant) taken.push_back(std::move(*at));
            at = meant ? e.waiting.erase(at) : std::next(at);
        }
    }
    each([&](generation& g) {
        for (queued_spawn& q : g.remove(session, request)) taken.push_back(std::move(q));
    });
    return taken;
}

void template_table::session_is_over(session_id session) {
    (void)take_back(session, {});
    std::vector<std::string> owned;
    for (auto& [name, e] : entries_) {
        std::erase_if(e.replies, [session](const auto& r) { return r.first == session; });
        if (e.spec->owner == session) owned.push_back(name);
    }
    for (const std::string& name : owned) (void)remove(name);
}

}  // namespace cleanfork::daemon
