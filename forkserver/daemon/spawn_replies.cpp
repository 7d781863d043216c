// What a spawn is answered.
#include <csignal>
#include <utility>

#include "forkserver/daemon/loop/boundary.hpp"
#include "forkserver/daemon/spawns.hpp"
#include "ipc/base/sys.hpp"
#include "ipc/wire/limits.hpp"

namespace cleanfork::daemon {

namespace {

void to_wire(const child& c, std::uint32_t pidfd_descriptor, v1::Spawned& out) {
    out.set_child(c.id.value());
    out.set_pid(c.process.pid());
    out.set_pidfd_descriptor(pidfd_descriptor);
    out.set_tree(c.origin.tree.by);
    out.set_restarts(c.restart != nullptr);
}

void to_wire(const result<child*>& r, std::uint32_t pidfd_descriptor, v1::SpawnReply& out) {
    if (!r) return ipc::to_wire(r.error(), *out.mutable_failure());
    to_wire(**r, pidfd_descriptor, *out.mutable_spawned());
}

}  // namespace

void spawns::has_begun(const queued_spawn& q, const child& c) {
    if (q.lease) return;  // it waits for its call
    metrics& m = core_.measured;
    const bool is_call = bool(c.origin.forked_by);
    histogram& of_kind = !is_call ? m.exec : q.is_warm ? m.warm_call : m.call;
    of_kind.add(ipc::monotonic_ns() - q.received_ns);
    log_spawned(c, !is_call ? "exec" : q.is_warm ? "warm_call" : "call");
}

void spawns::log_spawned(const child& c, std::string_view kind) {
    core_.log.debug("spawned", {{"session", c.origin.session.value()},
                                {"child", c.id.value()},
                                {"pid", std::int64_t{c.process.pid()}},
                                {"kind", kind},
                                {"template", c.origin.template_name},
                                {"traceparent", c.origin.trace_parent},
                                {"command", c.origin.command, true}});
}

void spawns::finish(queued_spawn q, const result<child*>& r) {
    if (!r) {
        ++core_.total.failed;
        core_.measured.count_failure(r.error().step);
        core_.log.debug("spawn_failed",
                        {{"session", q.session.value()}, {"why", r.error().message()}});
    }
    if (r) has_begun(q, **r);
    if (!r || q.hold.count() == 0 || q.batch || (*r)->restart) return answer(q, r);
    (*r)->held_request = q.request_id;
    held_.hold((*r)->id, q.hold);
}

void spawns::answer(const queued_spawn& q, const result<child*>& r) {
    session* s = core_.sessions.find(q.session);
    if (s == nullptr) return;
    if (q.batch) return answer_item(q, r);
    v1::ServerMessage reply;
    reply.set_request_id(q.request_id.value());
    to_wire(r, 1, *reply.mutable_spawn());
    if (!r) return (void)s->send(reply);
    reply.add_descriptors(v1::DESCRIPTOR_PURPOSE_PIDFD);
    int fds[] = {(*r)->process.pidfd(), -1};
    std::size_t count = 1;
    if ((*r)->lease && (*r)->lease->channel) {
        reply.add_descriptors(v1::DESCRIPTOR_PURPOSE_LEASE);
        fds[count++] = (*r)->lease->channel.get();
        reply.mutable_spawn()->mutable_spawned()->set_lease_descriptor(2);
    }
    if (!s->send(reply, {fds, count})) abandon(**r);
}

void spawns::answer_item(const queued_spawn& q, const result<child*>& r) {
    batch& b = *q.batch;
    if (b.left == 0) return;  // what threw came after the answer
    v1::SpawnReply& item = *b.reply.mutable_batch()->mutable_items(q.item);
    item.Clear();
    to_wire(r, static_cast<std::uint32_t>(b.children.size() + (r ? 1 : 0)), item);
    // From here on nothing throws: there is room for all items.
    if (r) {
        (*r)->reply_pending = true;
        b.children.push_back((*r)->id);
        b.reply.add_descriptors(v1::DESCRIPTOR_PURPOSE_PIDFD);
    }
    if (--b.left == 0) answer_batch(q);
}

// All of its children, or none: what throws is told instead, and ends them.
void spawns::answer_batch(const queued_spawn& q) {
    batch& b = *q.batch;
    int pidfds[ipc::k_max_batch];
    std::size_t n = 0;
    for (const child_id id : b.children) pidfds[n++] = children_.find(id)->process.pidfd();
    session* s = core_.sessions.find(q.session);
    bool sent = false;
    try {
        sent = s->send(b.reply, {pidfds, n});
    } catch (...) {
        const failure why = caught(core_.io, "batch");
        bounded(core_.io, "batch", [&] { s->send_failure(q.request_id, why); });
    }
    for (const child_id id : b.children) {
        child* c = children_.find(id);  // gone when the send ended the session
        if (c == nullptr) continue;
        if (!sent) {
            abandon(*c);
            continue;
        }
        c->reply_pending = false;
        if (!c->exit) continue;
        insist(core_.io, "batch", [&] {
            v1::Exit exit;
            to_wire(*c, exit);
            s->add_exit(std::move(exit));
        });
    }
    s->flush_exits();
}

void spawns::release_reply(child& c) {
    v1::ServerMessage reply;
    reply.set_request_id(std::exchange(c.held_request, {}).value());
    session* s = core_.sessions.find(c.origin.session);
    if (s == nullptr) return;
    v1::Spawned& spawned = *reply.mutable_spawn()->mutable_spawned();
    to_wire(c, c.exit ? 0 : 1, spawned);
    if (c.exit) {
        to_wire(c, *spawned.mutable_exit());
        (void)s->send(reply);
        return;
    }
    reply.add_descriptors(v1::DESCRIPTOR_PURPOSE_PIDFD);
    const int pidfd = c.process.pidfd();
    if (!s->send(reply, {&pidfd, 1})) abandon(c);
}

bool spawns::is_held(child_id id) {
    const child* c = children_.find(id);
    return c != nullptr && c->held_request;
}

void spawns::on_held_long_enough(child_id id) {
    child* c = children_.find(id);
    if (c == nullptr) return;
    try {
        release_reply(*c);
    } catch (...) {
        // Better no session than one that waits for ever.
        const failure why = caught(core_.io, "reply");
        if (session* s = core_.sessions.find(c->origin.session)) s->end_later(why);
    }
}

}  // namespace cleanfork::daemon
