// What the server does for each kind of request but spawn.
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>

#include "forkserver/daemon/server.hpp"
#include "ipc/base/fd.hpp"
#include "ipc/base/proc.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

namespace {

failure no_such_child(step s, child_id id) {
    return ipc::fail(s, ESRCH, "child " + std::to_string(id.value()));
}

void add_features(const ipc::feature_set& set, v1::HelloReply& out) {
    for (const ipc::feature f : ipc::k_all_features)
        if (set.has(f)) out.add_features(static_cast<v1::Feature>(f));
}

}  // namespace

void server::on_message(session& s, ipc::decoded<v1::ClientMessage> m) {
    const request_id request(m.message.request_id());
    const auto refuse = [&](const char* why) {
        s.end(ipc::fail(step::protocol, EBADMSG, "packet", why));
    };
    if (!request) return refuse("a request without an id");
    if (!s.greeted && !m.message.has_hello()) return refuse("hello comes first");
    acknowledge(s, m.message);
    switch (m.message.body_case()) {
        case v1::ClientMessage::kHello:
            if (s.greeted) return refuse("hello comes once");
            return hello(s, m);
        case v1::ClientMessage::kSpawn: return enqueue_spawn(s, m);
        case v1::ClientMessage::kBatch: return enqueue_batch(s, m);
        case v1::ClientMessage::kUpdateBase: return update_base(s, m);
        case v1::ClientMessage::kOpenSession: return open_session(s, m);
        default:
            if (m.message.has_add_template() && on_template_message(s, m)) return;
            break;
    }
    if (!m.descriptors.empty()) return refuse("descriptors with a request that takes none");
    switch (m.message.body_case()) {
        case v1::ClientMessage::kSignal: return signal(s, request, m.message.signal());
        case v1::ClientMessage::kWait: return wait(s, request, m.message.wait());
        case v1::ClientMessage::kList: return list(s, request);
        case v1::ClientMessage::kStats: return stats(s, request);
        case v1::ClientMessage::kCancel: return cancel(s, request, m.message.cancel());
        case v1::ClientMessage::kAcknowledge: return;
        case v1::ClientMessage::kShutdown: {
            v1::ServerMessage reply;
            reply.set_request_id(request.value());
            reply.mutable_shutdown();
            s.send(reply);
            return shut_down("a client asked for it");
        }
        default:
            if (!on_template_message(s, m)) refuse("a request of no known kind");
    }
}

void server::hello(session& s, ipc::decoded<v1::ClientMessage>& m) {
    v1::Hello& h = *m.message.mutable_hello();
    if (h.protocol() != ipc::k_protocol_version)
        return s.end(ipc::fail(step::hello, EPROTO, "protocol " + std::to_string(h.protocol()),
                               "this forkserver speaks protocol " +
                                   std::to_string(ipc::k_protocol_version) +
                                   ": use client and forkserver of one version"));
    if (const failure f = set_base(s, *h.mutable_base(), m); f.step != step::none) return s.end(f);
    s.greeted = true;
    v1::ServerMessage reply;
    reply.set_request_id(m.message.request_id());
    v1::HelloReply& r = *reply.mutable_hello();
    r.set_protocol(ipc::k_protocol_version);
    r.set_version(config_.version);
    add_features(config_.features, r);
    r.set_instance(instance_);
    r.set_pid(::getpid());
    r.set_session(s.id().value());
    s.send(reply);
}

failure server::set_base(session& s, v1::SessionBase& base, ipc::decoded<v1::ClientMessage>& m) {
    auto fresh = std::make_shared<spawn::session_base>();
    fresh->wire = base.SerializeAsString();
    if (static_cast<std::size_t>(base.environment_size()) > ipc::k_max_environment)
        return ipc::fail(step::request, E2BIG, "environment", "too many variables");
    std::vector<std::string> strings;
    strings.reserve(static_cast<std::size_t>(base.environment_size()));
    for (std::string& e : *base.mutable_environment()) {
        // Some programs run with entries that are no assignments; children get them too.
        if (e.find('\0') != std::string::npos || e.size() > ipc::k_max_string)
            return ipc::fail(step::request, EINVAL, "environment",
                             "an entry holds a NUL or is too long");
        strings.push_back(std::move(e));
    }
    fresh->environment.strings = std::move(strings);
    fresh->environment.seal();
    const std::size_t wanted = base.cwd_descriptor() != 0 ? 1 : 0;
    if (m.descriptors.size() != wanted || base.cwd_descriptor() > 1 ||
        (wanted == 1 && m.message.descriptors(0) != v1::DESCRIPTOR_PURPOSE_CWD))
        return ipc::fail(step::protocol, EBADMSG, "packet",
                         "a base has one descriptor at most, its working directory");
    if (wanted == 1) fresh->cwd = std::move(m.descriptors.front());
    s.base = std::move(fresh);
    return {};
}

void server::open_session(session& s, ipc::decoded<v1::ClientMessage>& m) {
    if (m.descriptors.size() != 1 || m.message.descriptors(0) != v1::DESCRIPTOR_PURPOSE_SESSION)
        return s.end(ipc::fail(step::protocol, EBADMSG, "packet",
                               "a session is opened over one descriptor, its socket"));
    const request_id request(m.message.request_id());
    const unique_fd& socket = m.descriptors.front();
    int type = 0;
    socklen_t size = sizeof type;
    if (::getsockopt(socket.get(), SOL_SOCKET, SO_TYPE, &type, &size) != 0 ||
        type != SOCK_SEQPACKET)
        return s.send_failure(request, ipc::fail(step::request, EINVAL, "session",
                                                 "its descriptor is no SOCK_SEQPACKET socket"));
    ipc::set_nonblocking(socket.get());
    v1::ServerMessage reply;
    reply.set_request_id(request.value());
    reply.mutable_open_session();
    s.send(reply);
    add_session(std::move(m.descriptors.front()));
}

void server::update_base(session& s, ipc::decoded<v1::ClientMessage>& m) {
    const request_id request(m.message.request_id());
    const std::size_t bytes = m.message.ByteSizeLong();
    const failure f = set_base(s, *m.message.mutable_update_base()->mutable_base(), m);
    if (f.step == step::protocol) return s.end(f);
    if (f.step != step::none) return s.send_failure(request, f);
    s.uncharged_base_bytes = bytes;
    v1::ServerMessage reply;
    reply.set_request_id(request.value());
    reply.mutable_update_base();
    s.send(reply);
}

void server::signal(session& s, request_id request, const v1::SignalRequest& r) {
    const std::string object = "child " + std::to_string(r.child());
    if (r.signal() < 0 || r.signal() > SIGRTMAX || r.target() < 0 ||
        r.target() > v1::SIGNAL_TARGET_CGROUP)
        return s.send_failure(request,
                              ipc::fail(step::signal, EINVAL, object, "no such signal or target"));
    const child* c = children_.find(child_id(r.child()));
    if (c == nullptr)
        return s.send_failure(request, no_such_child(step::signal, child_id(r.child())));
    const auto target = r.target() == v1::SIGNAL_TARGET_GROUP    ? signal_target::group
                        : r.target() == v1::SIGNAL_TARGET_CGROUP ? signal_target::cgroup
                                                                 : signal_target::process;
    if (target == signal_target::group && !c->leads_group)
        return s.send_failure(request,
                              ipc::fail(step::signal, EINVAL, object, "it leads no process group"));
    if (target == signal_target::cgroup && !c->cgroup)
        return s.send_failure(
            request, ipc::fail(step::signal, EINVAL, object, "it was spawned without a cgroup"));
    if (const int e = lifetimes_.signal(*c, r.signal(), target))
        return s.send_failure(request, ipc::fail(step::signal, e, object));
    v1::ServerMessage reply;
    reply.set_request_id(request.value());
    reply.mutable_signal();
    s.send(reply);
}

void server::wait(session& s, request_id request, const v1::WaitRequest& r) {
    child* c = children_.find(child_id(r.child()));
    if (c == nullptr)
        return s.send_failure(request, no_such_child(step::wait, child_id(r.child())));
    if (s.waits >= config_.quotas.queued_per_session) {
        ++quota_refusals_total_;
        return s.send_failure(
            request,
            resource_exhausted("waits", config_.quotas.queued_per_session, "--max-queued"));
    }
    ++s.waits;
    c->waiters.push_back({s.id(), request});
    if (!c->exit) return;
    tell_waiters(*c);
    if (!c->session) {
        c->acknowledged = true;
        forget_if_done(*c);
    }
}

void server::list(session& s, request_id request) {
    v1::ServerMessage reply;
    reply.set_request_id(request.value());
    v1::ListReply& l = *reply.mutable_list();
    const std::uint64_t now = ipc::monotonic_ns();
    children_.each([&](child& c) {
        if (c.process_of) return;  // see list_templates
        v1::ChildInfo& i = *l.add_children();
        i.set_child(c.id.value());
        i.set_pid(c.process.pid());
        i.set_session(c.session.value());
        i.set_command(c.command);
        i.set_age_ns(now - c.started_ns);
        i.set_keep(c.lifetime.keep);
        i.set_template_name(c.template_name);
        if (c.exit) to_wire(c, *i.mutable_exit());
    });
    s.send(reply);
}

void server::stats(session& s, request_id request) {
    v1::ServerMessage reply;
    reply.set_request_id(request.value());
    v1::StatsReply& r = *reply.mutable_stats();
    r.set_pid(::getpid());
    r.set_uptime_ns(ipc::monotonic_ns() - started_ns_);
    r.set_sessions(sessions_.size());
    r.set_sessions_total(sessions_total_);
    r.set_children(children_.alive());
    r.set_statuses(children_.size() - children_.alive());
    r.set_queued(queue_.size());
    r.set_spawned_total(spawned_total_);
    r.set_failed_total(failed_total_);
    r.set_exited_total(children_.exited_total());
    r.set_protocol_errors_total(protocol_errors_total_);
    r.set_quota_refusals_total(quota_refusals_total_);
    r.set_descriptors(ipc::open_descriptor_count());
    r.set_rss_kib(ipc::resident_kib());
    r.set_spawn_ns_total(spawn_ns_total_);
    r.set_spawn_ns_max(spawn_ns_max_);
    r.set_version(config_.version);
    r.set_instance(instance_);
    s.send(reply);
}

void server::cancel(session& s, request_id request, const v1::CancelRequest& r) {
    auto taken = queue_.remove(s.id(), request_id(r.request_id()));
    for (queued_spawn& q : templates_.take_back(s.id(), request_id(r.request_id()))) {
        discharge(q);
        taken.push_back(std::move(q));
    }
    for (const queued_spawn& q : taken)
        answer(q,
               result<child*>(ipc::fail(step::queue, ECANCELED, {}, "cancelled before it began")));
    v1::ServerMessage reply;
    reply.set_request_id(request.value());
    reply.mutable_cancel()->set_cancelled(!taken.empty());
    s.send(reply);
}

// An exit can only be acknowledged by the session it was told to.
void server::acknowledge(session& s, const v1::ClientMessage& m) {
    for (const std::uint64_t id : m.acknowledged()) {
        child* c = children_.find(child_id(id));
        if (c == nullptr || c->session != s.id() || !c->exit) continue;
        c->acknowledged = true;
        forget_if_done(*c);
    }
}

}  // namespace cleanfork::daemon
