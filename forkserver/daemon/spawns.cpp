#include "forkserver/daemon/spawns.hpp"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <cassert>
#include <csignal>

#include "forkserver/daemon/children/tree.hpp"
#include "forkserver/daemon/origins.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

namespace {

// Standard, event loop, signals, listener, closers, and the few a spawn needs for a moment.
constexpr std::size_t k_own_descriptors = 32;
constexpr std::size_t k_share_left = 8;

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

queued_spawn from_packet(const session& s, const ipc::decoded<v1::ClientMessage>& m,
                         spawn::shared_descriptors descriptors) {
    queued_spawn q;
    q.session = s.id();
    q.received_ns = ipc::monotonic_ns();
    q.request_id = request_id(m.message.request_id());
    q.purposes.assign(m.message.descriptors().begin(), m.message.descriptors().end());
    q.descriptors = std::move(descriptors);
    q.base = s.base;
    return q;
}

}  // namespace

spawns::spawns(core& c, child_table& children, template_table& templates, restarts& again,
               births& begin)
    : core_(c),
      children_(children),
      templates_(templates),
      restarts_(again),
      births_(begin),
      trees_(c.launcher.self().clone_into_cgroup),
      held_(c.io, *this) {}

// ---- into the queue --------------------------------------------------------

// Why `more` is too much for the session; step::none: it is not.
failure spawns::over_quota(const session& s, const amounts& more) {
    const amounts& used = *s.account;
    const quotas& q = core_.config.quotas;
    if (used.spawns + more.spawns > q.queued_per_session)
        return core_.over_quota("queued spawns", q.queued_per_session, "--max-queued");
    if (used.bytes + more.bytes > q.queued_bytes_per_session)
        return core_.over_quota("bytes of queued spawns", q.queued_bytes_per_session,
                                "--max-queued-bytes");
    if (used.descriptors + more.descriptors > q.queued_descriptors_per_session)
        return core_.over_quota("descriptors of queued spawns", q.queued_descriptors_per_session,
                                "--max-queued-descriptors");
    return {};
}

void spawns::enqueue(session& s, ipc::decoded<v1::ClientMessage>& m) {
    const amounts what{.spawns = 1,
                       .bytes = m.message.spawn().ByteSizeLong() + s.uncharged_base_bytes,
                       .descriptors = m.descriptors.size()};
    if (const failure f = over_quota(s, what); f.step != step::none)
        return s.send_failure(request_id(m.message.request_id()), f);
    s.uncharged_base_bytes = 0;
    queued_spawn q = from_packet(s, m, spawn::share(std::move(m.descriptors), core_.closing));
    q.place = charge(s.account, what);
    q.hold = std::min(std::chrono::microseconds(m.message.spawn().reply_hold_us()),
                      ipc::k_max_reply_hold);
    q.request.reset(m.message.release_spawn());
    queue_.push(std::move(q));
}

void spawns::enqueue_batch(session& s, ipc::decoded<v1::ClientMessage>& m) {
    auto& items = *m.message.mutable_batch()->mutable_items();
    const request_id request(m.message.request_id());
    const auto count = static_cast<std::size_t>(items.size());
    if (count == 0 || count > ipc::k_max_batch)
        return s.send_failure(
            request, ipc::fail(step::request, EINVAL, "items",
                               "a batch has 1 to " + std::to_string(ipc::k_max_batch) + " items"));
    const std::size_t bytes = m.message.ByteSizeLong() + s.uncharged_base_bytes;
    const std::size_t descriptors = m.descriptors.size();
    if (const failure f =
            over_quota(s, {.spawns = count, .bytes = bytes, .descriptors = descriptors});
        f.step != step::none)
        return s.send_failure(request, f);
    s.uncharged_base_bytes = 0;
    const auto group = std::make_shared<batch>();
    group->left = count;
    group->reply.set_request_id(request.value());
    for (std::size_t i = 0; i < count; ++i) group->reply.mutable_batch()->add_items();
    const spawn::shared_descriptors of_all = spawn::share(std::move(m.descriptors), core_.closing);
    for (std::size_t i = 0; i < count; ++i) {
        queued_spawn q = from_packet(s, m, of_all);
        q.place =
            charge(s.account, {.spawns = 1, .bytes = bytes / count, .descriptors = descriptors});
        q.request = std::make_unique<v1::SpawnRequest>(std::move(items[static_cast<int>(i)]));
        q.batch = group;
        q.item = static_cast<int>(i);
        queue_.push(std::move(q));
    }
}

bool spawns::cancel(session_id session, request_id request, const failure& why) {
    auto taken = queue_.remove(session, request);
    for (queued_spawn& q : templates_.take_back(session, request)) taken.push_back(std::move(q));
    for (const queued_spawn& q : taken) answer(q, why);
    const bool begun = births_.give_up(session, request, why);
    return begun || !taken.empty();
}

void spawns::fail_queued(const failure& why) {
    while (auto q = queue_.pop()) answer(*q, why);
    births_.give_up_all(why);
}

void spawns::drop(session_id session) {
    queue_.remove_session(session);
    births_.drop(session);
    templates_.session_is_over(session);
}

// ---- to a process ----------------------------------------------------------

// In between two spawns replies, exits and cancellations pass.
void spawns::pump() {
    if (pumping_) return;
    // Until there is room for one more, or it is known that there will be none.
    if (births_.is_full() && births_.refusal({}).step == step::none) return;
    auto q = queue_.pop();
    if (!q) return;
    begin(std::move(*q));
    if (queue_.empty()) return;
    pumping_ = true;
    boost::asio::post(core_.io, [this] {
        pumping_ = false;
        pump();
    });
}

void spawns::begin(queued_spawn q) {
    if (failure why = refusal(q); why.step != step::none) return finish(std::move(q), why);
    if (auto logs = begin_log_writers(q); !logs) return finish(std::move(q), logs.error());
    if (q.request->has_call()) return begin_call(std::move(q));
    auto r = begin_exec(q, false);
    if (!r || *r != nullptr) finish(std::move(q), r);
}

// The more children a session has, the more descriptors it must leave for others:
// none can take the last one, and a session with few children still gets some.
bool spawns::leaves_descriptors(const session& s) const {
    const std::size_t limit = core_.config.descriptor_limit;
    // Under a limit as low as that, what is short fails by itself, by EMFILE.
    const std::size_t own = std::min(k_own_descriptors, limit / 2);
    const std::size_t used =
        own + core_.sessions.size() + children_.size() + restarts_.descriptors();
    return used + s.account->children / k_share_left < limit;
}

// Why it cannot begin now; step::none: it can.
failure spawns::refusal(const queued_spawn& q) {
    if (core_.shutting_down) return core::ending();
    if (is_late(q)) return late_failure();
    if (!q.descriptors->empty())
        if (failure f = core_.closing->refusal(); f.step != step::none) return f;
    if (failure f = births_.refusal(q.session); f.step != step::none && q.request->has_exec())
        return f;
    const session* s = core_.sessions.find(q.session);
    if (s == nullptr) return {};
    const std::size_t most = core_.config.quotas.children_per_session;
    if (s->account->children + s->account->calls >= most)
        return core_.over_quota("children", most, "--max-children");
    if (!leaves_descriptors(*s)) {
        ++core_.total.quota_refusals;
        return ipc::fail(step::quota, EMFILE, "descriptors",
                         "RESOURCE_EXHAUSTED: each child takes a descriptor of the forkserver, and "
                         "the last ones are for other sessions: raise its RLIMIT_NOFILE");
    }
    return {};
}

charge spawns::place_of_child(session_id session) const {
    const daemon::session* s = core_.sessions.find(session);
    return s == nullptr ? charge() : charge(s->account, {.children = 1});
}

void spawns::begin_call(queued_spawn q) {
    if (q.descriptors->size() > ipc::k_max_call_descriptors)
        return finish(
            std::move(q),
            ipc::fail(step::request, E2BIG, std::to_string(q.descriptors->size()) + " descriptors",
                      "a call takes at most " + std::to_string(ipc::k_max_call_descriptors)));
    if (auto tree = prepare_tree_of_call(*q.request); !tree)
        return finish(std::move(q), tree.error());
    if (auto none = restarts_.prepare(*q.request, q.purposes, q.descriptors, q.base); !none)
        return finish(std::move(q), none.error());
    q.began_ns = ipc::monotonic_ns();
    q.place.add({.calls = 1});
    templates_.call(std::move(q));
}

child_id spawns::on_call_started(queued_spawn q, generation_id generation,
                                 ipc::process_ref process) {
    q.place.give_back();
    if (core_.sessions.find(q.session) == nullptr) {
        process.signal(SIGKILL);
        return {};
    }
    child_origin origin = origin_of(q);
    origin.cgroup = core_.launcher.own_descriptor(cgroup_of(q));
    if (const std::uint64_t mark = q.request->tree_marker(); mark != 0)
        origin.tree = {.by = v1::TREE_MEANS_WALK, .cgroup = {}, .mark = mark};
    origin.forked_by = generation;
    origin.place = place_of_child(q.session);
    const auto added = children_.add(std::move(origin),
                                     core_.launcher.own_process(std::move(process)), q.began_ns);
    core_.total.count_spawn(ipc::monotonic_ns() - q.began_ns);
    assert(added);  // the child of a template is always taken in
    const child_id id = (*added)->id;
    finish(std::move(q), added);
    return id;
}

void spawns::on_call_failed(queued_spawn q, const failure& why) {
    q.place.give_back();
    finish(std::move(q), why);
}

void spawns::on_template_settled(session_id id, v1::ServerMessage reply) {
    if (session* s = core_.sessions.find(id)) s->send(reply);
}

// ---- to its reply ----------------------------------------------------------

void spawns::finish(queued_spawn q, const result<child*>& r) {
    if (!r) {
        ++core_.total.failed;
        core_.log.debug("spawn_failed",
                        {{"session", q.session.value()}, {"why", r.error().message()}});
    }
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
    if (!r) return s->send(reply);
    reply.add_descriptors(v1::DESCRIPTOR_PURPOSE_PIDFD);
    const int pidfd = (*r)->process.pidfd();
    s->send(reply, {&pidfd, 1});
}

void spawns::answer_item(const queued_spawn& q, const result<child*>& r) {
    batch& b = *q.batch;
    v1::SpawnReply& item = *b.reply.mutable_batch()->mutable_items(q.item);
    if (r) {
        (*r)->reply_pending = true;
        b.children.push_back((*r)->id);
        b.reply.add_descriptors(v1::DESCRIPTOR_PURPOSE_PIDFD);
    }
    to_wire(r, static_cast<std::uint32_t>(b.children.size()), item);
    if (--b.left != 0) return;
    int pidfds[ipc::k_max_batch];
    std::size_t n = 0;
    for (const child_id id : b.children) pidfds[n++] = children_.find(id)->process.pidfd();
    session* s = core_.sessions.find(q.session);
    s->send(b.reply, {pidfds, n});
    for (const child_id id : b.children) {
        child* c = children_.find(id);  // gone when the send ended the session
        if (c == nullptr) continue;
        c->reply_pending = false;
        if (!c->exit) continue;
        v1::Exit exit;
        to_wire(*c, exit);
        s->add_exit(std::move(exit));
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
        return s->send(reply);
    }
    reply.add_descriptors(v1::DESCRIPTOR_PURPOSE_PIDFD);
    const int pidfd = c.process.pidfd();
    s->send(reply, {&pidfd, 1});
}

bool spawns::is_held(child_id id) {
    const child* c = children_.find(id);
    return c != nullptr && c->held_request;
}

void spawns::on_held_long_enough(child_id id) {
    if (child* c = children_.find(id)) release_reply(*c);
}

}  // namespace cleanfork::daemon
