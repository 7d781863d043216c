#include "forkserver/daemon/dispatch.hpp"

#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

#include "forkserver/daemon/loop/boundary.hpp"
#include "forkserver/daemon/sessions/sender.hpp"
#include "forkserver/spawn/trace_parent.hpp"
#include "ipc/base/fd.hpp"
#include "ipc/base/proc.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/identity_message.hpp"

namespace cleanfork::daemon {

namespace {

constexpr std::size_t k_listed_a_turn = 512;

void add_features(const ipc::feature_set& set, v1::HelloReply& out) {
    for (const ipc::feature f : ipc::k_all_features)
        if (set.has(f)) out.add_features(static_cast<v1::Feature>(f));
}

v1::ServerMessage reply_to(request_id request) {
    v1::ServerMessage reply;
    reply.set_request_id(request.value());
    return reply;
}

// Asked for at each greeting: an administrator may have changed it from outside.
failure add_identity(const spawn::parent_facts& self, v1::HelloReply& out) {
    ipc::identity now = ipc::own_identity();
    if (now.error_number != 0)
        return ipc::fail(step::hello, now.error_number, now.unseen,
                         now.error_number == EMFILE
                             ? "the forkserver could not look at its own: raise its RLIMIT_NOFILE"
                             : "the forkserver could not look at its own");
    now.conduct.limits[RLIMIT_NOFILE] = self.descriptor_limit;  // what children get
    ipc::to_wire(now.rights, *out.mutable_rights());
    ipc::to_wire(now.place, *out.mutable_place());
    ipc::to_wire(now.conduct, *out.mutable_conduct());
    return {};
}

void add_restarts(const child& c, v1::ChildInfo& out) {
    const child_restart& r = *c.restart;
    out.set_restart(r.schedule.policy());
    out.set_restarts(r.count);
    if (r.last) to_wire(c.id, *r.last, *out.mutable_last_exit());
    if (!r.due) return;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(*r.due - steady::now());
    out.set_restart_in_ms(static_cast<std::uint64_t>(std::max<std::int64_t>(left.count(), 1)));
}

void to_wire(const child& c, std::uint64_t now, v1::ChildInfo& i) {
    i.set_child(c.id.value());
    i.set_pid(c.process.pid());
    i.set_session(c.origin.session.value());
    i.set_command(c.origin.command);
    i.set_age_ns(now - c.started_ns);
    i.set_keep(c.origin.lifetime.keep);
    i.set_template_name(c.origin.template_name);
    i.set_tree(c.origin.tree.by);
    i.set_leased(c.lease.has_value());
    if (c.exit) to_wire(c, *i.mutable_exit());
    if (c.restart) add_restarts(c, i);
}

void to_wire(const births::one& o, std::uint64_t now, v1::BirthInfo& i) {
    i.set_session(o.cause.session.value());
    i.set_pid(o.birth->process().pid());
    i.set_command(o.cause.command);
    i.set_age_ns(now - o.birth->started_ns());
    i.set_step(static_cast<std::uint32_t>(o.birth->at()));
    i.set_given_up(o.whose == nullptr);
}

failure bad_packet(const char* why) { return ipc::fail(step::protocol, EBADMSG, "packet", why); }

}  // namespace

void dispatch::on_message(session& s, message& m) {
    const request_id request(m.message.request_id());
    if (!request) return s.end(bad_packet("a request without an id"));
    if (!s.greeted && !m.message.has_hello()) return s.end(bad_packet("hello comes first"));
    s.sender_is_another = s.greeted && !s.lends_rights && m.sender && is_another_user(*m.sender);
    if (s.sender_is_another)
        if (const failure f = beyond_sender(*m.sender, m.message); f.step != step::none) {
            core_.log.warning("request_refused", {{"session", s.id().value()},
                                                  {"uid", std::uint64_t{m.sender->uid}},
                                                  {"pid", std::int64_t{m.sender->pid}}});
            return s.send_failure(request, f);
        }
    for (const std::uint64_t id : m.message.acknowledged())
        parts_.ended.acknowledge(s, child_id(id));
    for (const v1::LeaseUse& use : m.message.leases_used()) parts_.spawning.lease_used(s, use);
    if (on_message_with_descriptors(s, request, m)) return;
    if (!m.descriptors.empty())
        return s.end(bad_packet("descriptors with a request that takes none"));
    const v1::ClientMessage& c = m.message;
    switch (c.body_case()) {
        case v1::ClientMessage::kSignal: return signal(s, request, c.signal());
        case v1::ClientMessage::kWait:
            return parts_.ended.wait(s, request, child_id(c.wait().child()));
        case v1::ClientMessage::kList: return list(s, request);
        case v1::ClientMessage::kStats: return stats(s, request);
        case v1::ClientMessage::kEvents: return parts_.events.ask(s, request, c.events().after());
        case v1::ClientMessage::kCancel: return cancel(s, request, c.cancel());
        case v1::ClientMessage::kAcknowledge:
            for (const std::uint64_t id : m.message.acknowledge().left_alone())
                parts_.ended.leave_rest(s, child_id(id));
            return;
        case v1::ClientMessage::kShutdown: return shutdown(s, request);
        case v1::ClientMessage::kListTemplates:
            return list_templates(s, request, c.list_templates());
        case v1::ClientMessage::kReloadTemplate:
            return reload_template(s, request, c.reload_template());
        case v1::ClientMessage::kRemoveTemplate:
            return remove_template(s, request, c.remove_template());
        default: s.end(bad_packet("a request of no known kind"));
    }
}

bool dispatch::on_message_with_descriptors(session& s, request_id request, message& m) {
    switch (m.message.body_case()) {
        case v1::ClientMessage::kHello: hello(s, request, m); return true;
        case v1::ClientMessage::kSpawn: parts_.spawning.enqueue(s, m); return true;
        case v1::ClientMessage::kBatch: parts_.spawning.enqueue_batch(s, m); return true;
        case v1::ClientMessage::kUpdateBase: update_base(s, request, m); return true;
        case v1::ClientMessage::kOpenSession: open_session(s, request, m); return true;
        case v1::ClientMessage::kAddTemplate: add_template(s, request, m); return true;
        default: return false;
    }
}

// ---- sessions --------------------------------------------------------------

void dispatch::hello(session& s, request_id request, message& m) {
    if (s.greeted) return s.end(bad_packet("hello comes once"));
    v1::Hello& h = *m.message.mutable_hello();
    if (h.protocol() != ipc::k_protocol_version)
        return s.end(ipc::fail(step::hello, EPROTO, "protocol " + std::to_string(h.protocol()),
                               "this forkserver speaks protocol " +
                                   std::to_string(ipc::k_protocol_version) +
                                   ": use client and forkserver of one version"));
    if (const failure f = set_base(s, *h.mutable_base(), m); f.step != step::none) return s.end(f);
    v1::ServerMessage reply = reply_to(request);
    v1::HelloReply& r = *reply.mutable_hello();
    if (const failure f = add_identity(core_.launcher.self(), r); f.step != step::none)
        return s.end(f);
    s.greeted = true;
    s.lends_rights = h.lends_rights();
    r.set_protocol(ipc::k_protocol_version);
    r.set_version(core_.config.version);
    add_features(core_.config.features, r);
    r.set_instance(core_.instance);
    r.set_pid(::getpid());
    r.set_session(s.id().value());
    s.send(reply);
}

failure dispatch::set_base(session& s, v1::SessionBase& base, message& m) {
    auto fresh = spawn::base_for_clients(core_.closing);
    const std::size_t size = base.ByteSizeLong();
    if (static_cast<std::size_t>(base.environment_size()) > ipc::k_max_environment)
        return ipc::fail(step::request, E2BIG, "environment", "too many variables");
    std::vector<std::string> strings;
    strings.reserve(static_cast<std::size_t>(base.environment_size()));
    for (std::string& e : *base.mutable_environment()) {
        // Some programs run with entries that are no assignments; children get them too. One
        // that is too long for an exec concerns the children alone that are to have it.
        if (e.find('\0') != std::string::npos)
            return ipc::fail(step::request, EINVAL, "environment", "an entry holds a NUL");
        strings.push_back(std::move(e));
    }
    fresh->environment.strings = std::move(strings);
    fresh->environment.seal();
    fresh->trace_parent = spawn::trace_parent_in(fresh->environment.strings);
    const std::size_t wanted = base.cwd_descriptor() != 0 ? 1 : 0;
    if (m.descriptors.size() != wanted || base.cwd_descriptor() > 1 ||
        (wanted == 1 && m.message.descriptors(0) != v1::DESCRIPTOR_PURPOSE_CWD))
        return ipc::fail(step::protocol, EBADMSG, "packet",
                         "a base has one descriptor at most, its working directory");
    if (wanted == 1) fresh->cwd = std::move(m.descriptors.front());
    fresh->cwd_is_local = fresh->cwd && core_.closing->closes_at_once(fresh->cwd.get());
    const std::size_t bytes = size + fresh->environment.strings.size() * k_memory_of_a_word;
    s.base_place = {};
    if (const failure f = core_.refusal({.memory = bytes}); f.step != step::none) return f;
    s.base_place = charge(s.account, {.memory = bytes});
    s.base = std::move(fresh);
    return {};
}

void dispatch::update_base(session& s, request_id request, message& m) {
    const std::size_t bytes = m.message.ByteSizeLong();
    const failure f = set_base(s, *m.message.mutable_update_base()->mutable_base(), m);
    if (f.step == step::protocol) return s.end(f);
    if (f.step != step::none) return s.send_failure(request, f);
    s.uncharged_base_bytes = bytes;
    parts_.out.revoke(s.id());  // what waits has the one before
    v1::ServerMessage reply = reply_to(request);
    reply.mutable_update_base();
    s.send(reply);
}

void dispatch::open_session(session& s, request_id request, message& m) {
    if (m.descriptors.size() != 1 || m.message.descriptors(0) != v1::DESCRIPTOR_PURPOSE_SESSION)
        return s.end(bad_packet("a session is opened over one descriptor, its socket"));
    const unique_fd& socket = m.descriptors.front();
    int type = 0;
    socklen_t size = sizeof type;
    if (::getsockopt(socket.get(), SOL_SOCKET, SO_TYPE, &type, &size) != 0 ||
        type != SOCK_SEQPACKET)
        return s.send_failure(request, ipc::fail(step::request, EINVAL, "session",
                                                 "its descriptor is no SOCK_SEQPACKET socket"));
    if (core_.sessions.is_end_of_one(socket.get()))
        return s.send_failure(
            request, ipc::fail(step::request, ELOOP, "session",
                               "it is the other end of a session of this forkserver, which would "
                               "never end: make a new pair for it, and give away one end"));
    ipc::set_nonblocking(socket.get());
    v1::ServerMessage reply = reply_to(request);
    reply.mutable_open_session();
    s.send(reply);
    owner_.add_session(std::move(m.descriptors.front()));
}

void dispatch::shutdown(session& s, request_id request) {
    v1::ServerMessage reply = reply_to(request);
    reply.mutable_shutdown();
    s.send(reply);
    owner_.shut_down("a client asked for it");
}

// ---- children --------------------------------------------------------------

void dispatch::signal(session& s, request_id request, const v1::SignalRequest& r) {
    const std::string object = "child " + std::to_string(r.child());
    const auto refuse = [&](int error, const char* why) {
        s.send_failure(request, ipc::fail(step::signal, error, object, why));
    };
    if (r.signal() < 0 || r.signal() > SIGRTMAX || r.target() < 0 ||
        r.target() > v1::SIGNAL_TARGET_TREE)
        return refuse(EINVAL, "no such signal or target");
    child* c = parts_.children.find(child_id(r.child()));
    if (c == nullptr) return refuse(ESRCH, "");
    if (s.sender_is_another && c->origin.session != s.id())
        return refuse(EPERM, "it is no child of this session, and the sender is another user");
    const signal_target target = target_of(r.target());
    if (target == signal_target::group && !c->origin.leads_group)
        return refuse(EINVAL, "it leads no process group");
    if (target == signal_target::cgroup && !c->origin.cgroup)
        return refuse(EINVAL, "it was spawned without a cgroup");
    if (target == signal_target::tree && c->origin.tree.by == v1::TREE_MEANS_UNSPECIFIED)
        return refuse(EINVAL, "it was spawned without the target tree in its lifetime");
    const int e = parts_.ends.signal(*c, r.signal(), target);
    const bool ends = c->restart && restarts::asks_to_end(*c, r.signal());
    const bool between = c->is_between_starts();
    if (ends) parts_.again.stop(*c);  // which may forget it
    if (e != 0 && !(ends && between))
        return refuse(e, between      ? "it waits for its restart"
                         : e == EPERM ? "it has become another user, as a set-user-ID program "
                                        "may: signal it as that user, or as root"
                                      : "");
    v1::ServerMessage reply = reply_to(request);
    reply.mutable_signal();
    s.send(reply);
}

// All that asked before it began get the same list. Of many children some in each turn.
void dispatch::list(session& s, request_id request) {
    to_list_.emplace_back(s.id(), request);
    if (listing_for_.empty()) begin_list();
}

void dispatch::begin_list() {
    listing_for_ = std::exchange(to_list_, {});
    listing_.Clear();
    list_from_ = {};
    if (!listing_for_.empty()) list_some();
}

void dispatch::list_some() {
    try {
        if (!add_to_list()) return post_bounded(core_.io, "list", [this] { list_some(); });
        for (; !listing_for_.empty(); listing_for_.pop_back()) {
            listing_.set_request_id(listing_for_.back().second.value());
            if (session* s = core_.sessions.find(listing_for_.back().first)) s->send(listing_);
        }
    } catch (...) {
        const failure why = caught(core_.io, "list");
        for (; !listing_for_.empty(); listing_for_.pop_back())
            bounded(core_.io, "list", [&] {
                session* s = core_.sessions.find(listing_for_.back().first);
                if (s != nullptr) s->send_failure(listing_for_.back().second, why);
            });
    }
    begin_list();
}

// True when all are in it.
bool dispatch::add_to_list() {
    std::vector<child_id> ids;
    list_from_ = parts_.children.after(list_from_, k_listed_a_turn, ids);
    const std::uint64_t now = ipc::monotonic_ns();
    for (const child_id id : ids) {
        const child& c = *parts_.children.find(id);
        if (c.origin.process_of || c.origin.is_service) continue;  // see list_templates
        to_wire(c, now, *listing_.mutable_list()->add_children());
    }
    if (list_from_) return false;
    v1::ListReply& l = *listing_.mutable_list();
    for (const births::one& o : parts_.begin.all()) to_wire(o, now, *l.add_births());
    return true;
}

void dispatch::stats(session& s, request_id request) {
    v1::ServerMessage reply = reply_to(request);
    v1::StatsReply& r = *reply.mutable_stats();
    const counters& total = core_.total;
    r.set_pid(::getpid());
    r.set_uptime_ns(ipc::monotonic_ns() - core_.started_ns);
    r.set_sessions(core_.sessions.size());
    r.set_sessions_total(total.sessions);
    r.set_children(parts_.children.alive());
    r.set_statuses(parts_.children.size() - parts_.children.alive());
    r.set_queued(parts_.spawning.queued());
    r.set_spawned_total(total.spawned);
    r.set_failed_total(total.failed);
    r.set_exited_total(parts_.children.exited_total());
    r.set_protocol_errors_total(total.protocol_errors);
    r.set_quota_refusals_total(total.quota_refusals);
    r.set_descriptors(ipc::open_descriptor_count());
    r.set_rss_kib(ipc::resident_kib());
    r.set_spawn_ns_total(total.spawn_ns);
    r.set_spawn_ns_max(total.spawn_ns_max);
    r.set_turn_ns_max(total.turn_ns_max);
    core_.measured.to_wire(*r.mutable_metrics());
    r.set_version(core_.config.version);
    r.set_instance(core_.instance);
    s.send(reply);
}

void dispatch::cancel(session& s, request_id request, const v1::CancelRequest& r) {
    const request_id which(r.request_id());
    const failure why = ipc::fail(step::queue, ECANCELED, {}, "cancelled before it began");
    const bool cancelled =
        parts_.spawning.cancel(s.id(), which, why) || parts_.events.cancel(s, which, why);
    v1::ServerMessage reply = reply_to(request);
    reply.mutable_cancel()->set_cancelled(cancelled);
    s.send(reply);
}

// ---- templates -------------------------------------------------------------

void dispatch::add_template(session& s, request_id request, message& m) {
    const auto add = [&]() -> result<void> {
        if (core_.shutting_down) return core::ending();
        if (failure why = core_.refusal({}); why.step != step::none) return why;
        if (m.descriptors.size() > ipc::k_max_call_descriptors)
            return ipc::fail(
                step::request, E2BIG, std::to_string(m.descriptors.size()) + " descriptors",
                "a template takes at most " + std::to_string(ipc::k_max_call_descriptors));
        if (auto ready = parts_.strays.adopt_from_now_on(); !ready) return ready;
        std::vector<int> purposes(m.message.descriptors().begin(), m.message.descriptors().end());
        return parts_.templates.add(*m.message.mutable_add_template(), std::move(purposes),
                                    spawn::share(std::move(m.descriptors), core_.closing), s.base,
                                    s.id(), request);
    };
    if (auto added = add(); !added) s.send_failure(request, added.error());
}

void dispatch::list_templates(session& s, request_id request, const v1::ListTemplatesRequest& r) {
    v1::ServerMessage reply = reply_to(request);
    if (auto listed = parts_.templates.list(r.name(), *reply.mutable_list_templates()); !listed)
        return s.send_failure(request, listed.error());
    s.send(reply);
}

void dispatch::reload_template(session& s, request_id request, const v1::ReloadTemplateRequest& r) {
    if (core_.shutting_down) return s.send_failure(request, core::ending());
    const auto begun = parts_.templates.reload(r, s.id(), request);
    if (!begun) s.send_failure(request, begun.error());
}

void dispatch::remove_template(session& s, request_id request, const v1::RemoveTemplateRequest& r) {
    if (auto removed = parts_.templates.remove(r.name()); !removed)
        return s.send_failure(request, removed.error());
    v1::ServerMessage reply = reply_to(request);
    reply.mutable_remove_template();
    s.send(reply);
}

}  // namespace cleanfork::daemon
