// The server's way of a spawn: queue, process, reply, exit.
#include <boost/asio/post.hpp>
#include <csignal>

#include "forkserver/daemon/server.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

namespace {

// Standard, event loop, signals, listener, and the few a spawn needs for a moment.
constexpr std::size_t k_own_descriptors = 24;
constexpr std::size_t k_share_left = 8;

void to_wire(const result<child*>& r, std::uint32_t pidfd_descriptor, v1::SpawnReply& out) {
    if (!r) return ipc::to_wire(r.error(), *out.mutable_failure());
    v1::Spawned& s = *out.mutable_spawned();
    s.set_child((*r)->id.value());
    s.set_pid((*r)->process.pid());
    s.set_pidfd_descriptor(pidfd_descriptor);
}

}  // namespace

failure resource_exhausted(const char* what, std::size_t most, const char* option) {
    return ipc::fail(
        step::quota, EDQUOT, what,
        "RESOURCE_EXHAUSTED: at most " + std::to_string(most) + " in one session (" + option + ")");
}

failure server::over_quota(const session& s, std::size_t spawns, std::size_t bytes,
                           std::size_t descriptors) const {
    const queue_usage used = queue_.usage(s.id());
    const quotas& q = config_.quotas;
    if (used.spawns + s.calls + spawns > q.queued_per_session)
        return resource_exhausted("queued spawns", q.queued_per_session, "--max-queued");
    if (used.bytes + s.call_bytes + bytes > q.queued_bytes_per_session)
        return resource_exhausted("bytes of queued spawns", q.queued_bytes_per_session,
                                  "--max-queued-bytes");
    if (used.descriptors + s.call_descriptors + descriptors > q.queued_descriptors_per_session)
        return resource_exhausted("descriptors of queued spawns", q.queued_descriptors_per_session,
                                  "--max-queued-descriptors");
    return {};
}

// The more children a session has, the more descriptors it must leave for others:
// none can take the last one, and a session with few children still gets some.
bool server::leaves_descriptors(const session& s) const {
    const std::size_t used = k_own_descriptors + sessions_.size() + children_.size();
    return used + s.children / k_share_left < config_.descriptor_limit;
}

void server::enqueue_spawn(session& s, ipc::decoded<v1::ClientMessage>& m) {
    queued_spawn q;
    q.bytes = m.message.spawn().ByteSizeLong() + s.uncharged_base_bytes;
    q.session = s.id();
    q.request_id = request_id(m.message.request_id());
    if (const failure f = over_quota(s, 1, q.bytes, m.descriptors.size()); f.step != step::none) {
        ++quota_refusals_total_;
        return s.send_failure(q.request_id, f);
    }
    s.uncharged_base_bytes = 0;
    q.hold = std::min(std::chrono::microseconds(m.message.spawn().reply_hold_us()),
                      ipc::k_max_reply_hold);
    q.request.reset(m.message.release_spawn());
    q.purposes.assign(m.message.descriptors().begin(), m.message.descriptors().end());
    q.descriptors = std::make_shared<const std::vector<unique_fd>>(std::move(m.descriptors));
    q.base = s.base;
    queue_.push(std::move(q));
}

void server::enqueue_batch(session& s, ipc::decoded<v1::ClientMessage>& m) {
    auto& items = *m.message.mutable_batch()->mutable_items();
    const request_id request(m.message.request_id());
    const auto count = static_cast<std::size_t>(items.size());
    if (count == 0 || count > ipc::k_max_batch)
        return s.send_failure(
            request, ipc::fail(step::request, EINVAL, "items",
                               "a batch has 1 to " + std::to_string(ipc::k_max_batch) + " items"));
    const std::size_t bytes = m.message.ByteSizeLong() + s.uncharged_base_bytes;
    if (const failure f = over_quota(s, count, bytes, m.descriptors.size()); f.step != step::none) {
        ++quota_refusals_total_;
        return s.send_failure(request, f);
    }
    s.uncharged_base_bytes = 0;
    const auto group = std::make_shared<batch>();
    group->left = count;
    group->reply.set_request_id(request.value());
    for (std::size_t i = 0; i < count; ++i) group->reply.mutable_batch()->add_items();
    const auto shared = std::make_shared<const std::vector<unique_fd>>(std::move(m.descriptors));
    for (std::size_t i = 0; i < count; ++i) {
        queued_spawn q;
        q.session = s.id();
        q.request_id = request;
        q.bytes = bytes / count;
        q.request = std::make_unique<v1::SpawnRequest>(std::move(items[static_cast<int>(i)]));
        q.purposes.assign(m.message.descriptors().begin(), m.message.descriptors().end());
        q.descriptors = shared;
        q.base = s.base;
        q.batch = group;
        q.item = static_cast<int>(i);
        queue_.push(std::move(q));
    }
}

// One spawn a turn of the loop: in between, replies, exits and cancellations pass.
void server::pump() {
    auto q = queue_.pop();
    if (!q) return;
    run(std::move(*q));
    if (queue_.empty()) return;
    pumping_ = true;
    boost::asio::post(io_, [this] {
        pumping_ = false;
        pump();
    });
}

void server::run(queued_spawn q) {
    if (q.request->has_call()) return run_call(std::move(q));
    auto r = spawn_now(q);
    finish(std::move(q), r);
}

void server::finish(queued_spawn q, const result<child*>& r) {
    if (!r) {
        ++failed_total_;
        log_.debug("spawn_failed", {{"session", q.session.value()}, {"why", r.error().message()}});
    }
    if (r && q.hold.count() != 0 && !q.batch) return hold_reply(q, **r);
    answer(q, r);
}

// Why it cannot begin now; step::none: it can.
failure server::refusal(const queued_spawn& q) {
    if (shutting_down_) return ipc::fail(step::shutdown, ESHUTDOWN, {}, "the forkserver is ending");
    if (is_late(q)) return late_failure();
    const session* s = find(q.session);
    if (s == nullptr) return {};
    if (s->children + s->calls >= config_.quotas.children_per_session) {
        ++quota_refusals_total_;
        return resource_exhausted("children", config_.quotas.children_per_session,
                                  "--max-children");
    }
    if (!leaves_descriptors(*s)) {
        ++quota_refusals_total_;
        return ipc::fail(step::quota, EMFILE, "descriptors",
                         "RESOURCE_EXHAUSTED: each child takes a descriptor of the forkserver, and "
                         "the last ones are for other sessions: raise its RLIMIT_NOFILE");
    }
    return {};
}

result<child*> server::spawn_now(queued_spawn& q) {
    if (failure why = refusal(q); why.step != step::none) return why;
    session* s = find(q.session);
    child c = child_of(q);
    auto p =
        spawn::prepare(std::move(q.request), q.purposes, q.descriptors, q.base, launcher_.self());
    if (!p) return p.error();
    if ((*p)->plan.cgroup_fd >= 0) {
        c.cgroup = launcher_.own_descriptor((*p)->dup_cgroup());
        if (!c.cgroup) return ipc::fail(step::prepare, errno, "cgroup");
    }
    c.command = spawn::command_of((*p)->request());
    auto made = launcher_.launch(**p);
    const std::uint64_t now = ipc::monotonic_ns();
    if (!made) return made.error();
    c.process = std::move(made->process);
    c.started_ns = made->started_ns;
    auto added = children_.add(std::move(c));
    if (!added) return added;
    if (s != nullptr) ++s->children;
    ++spawned_total_;
    spawn_ns_total_ += now - made->started_ns;
    spawn_ns_max_ = std::max(spawn_ns_max_, now - made->started_ns);
    log_.debug("spawned", {{"session", q.session.value()},
                           {"child", (*added)->id.value()},
                           {"pid", std::int64_t{(*added)->process.pid()}}});
    return added;
}

void server::answer(const queued_spawn& q, const result<child*>& r) {
    session* s = find(q.session);
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

void server::answer_item(const queued_spawn& q, const result<child*>& r) {
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
    session* s = find(q.session);
    s->send(b.reply, {pidfds, n});
    for (const child_id id : b.children) {
        child* c = children_.find(id);  // gone when the send ended the session
        if (c == nullptr) continue;
        c->reply_pending = false;
        if (c->exit) tell_exit(*c);
    }
    s->flush_exits();
}

// A short-lived child's exit often comes sooner than its client could read the
// reply: sent together they cost one wake-up.
void server::hold_reply(const queued_spawn& q, child& c) {
    c.held_request = q.request_id;
    holds_.emplace_back(std::chrono::steady_clock::now() + q.hold, c.id);
    arm_hold_timer();
}

void server::arm_hold_timer() {
    if (hold_armed_ || holds_.empty()) return;
    hold_armed_ = true;
    hold_timer_.expires_at(holds_.front().first);
    hold_timer_.async_wait([this](boost::system::error_code ec) {
        hold_armed_ = false;
        if (!ec) expire_holds();
    });
}

void server::release_held(child& c) {
    v1::ServerMessage reply;
    reply.set_request_id(std::exchange(c.held_request, {}).value());
    session* s = find(c.session);
    if (s == nullptr) return;
    v1::Spawned& spawned = *reply.mutable_spawn()->mutable_spawned();
    spawned.set_child(c.id.value());
    spawned.set_pid(c.process.pid());
    if (c.exit) {
        to_wire(c, *spawned.mutable_exit());
        return s->send(reply);
    }
    spawned.set_pidfd_descriptor(1);
    reply.add_descriptors(v1::DESCRIPTOR_PURPOSE_PIDFD);
    const int pidfd = c.process.pidfd();
    s->send(reply, {&pidfd, 1});
}

void server::expire_holds() {
    const auto now = std::chrono::steady_clock::now();
    while (!holds_.empty()) {
        child* c = children_.find(holds_.front().second);
        const bool waits = c != nullptr && c->held_request;
        if (waits && holds_.front().first > now) break;
        holds_.pop_front();
        if (waits) release_held(*c);
    }
    arm_hold_timer();
}

void server::tell_exit(child& c) {
    session* s = find(c.session);
    if (s == nullptr) return;
    v1::Exit exit;
    to_wire(c, exit);
    s->add_exit(std::move(exit));
    to_flush_.push_back(s->id());
}

void server::child_exited(child& c) {
    log_.debug("exited",
               {{"child", c.id.value()}, {"wait_status", std::int64_t{c.exit->wait_status}}});
    if (c.generation) templates_.child_ended(c.generation, c.id);
    if (c.process_of) {
        templates_.process_ended(c.process_of, c.exit->wait_status);
        return children_.forget(c.id);
    }
    if (c.held_request)
        release_held(c);
    else if (!c.reply_pending)
        tell_exit(c);
    const bool told = tell_waiters(c);
    const child_id id = c.id;
    lifetimes_.child_exited(c);
    child* left = children_.find(id);
    if (left == nullptr || left->session) return;
    if (told || (!left->lifetime.keep && !lifetimes_.ending(id))) {
        left->acknowledged = true;
        return forget_if_done(*left);
    }
    if (!left->lifetime.keep) return;
    unclaimed_.push_back(id);
    bound_unclaimed();
}

bool server::tell_waiters(child& c) {
    bool told = false;
    for (const exit_waiter& w : c.waiters) {
        session* s = find(w.session);
        if (s == nullptr) continue;
        told = true;
        --s->waits;
        v1::ServerMessage reply;
        reply.set_request_id(w.request.value());
        to_wire(c, *reply.mutable_wait()->mutable_exit());
        s->send(reply);
    }
    c.waiters.clear();
    return told;
}

// A leader's group or cgroup may outlive it: the child stays known until the
// session ends, when its lifetime is for them.
void server::forget_if_done(child& c) {
    if (!c.exit || lifetimes_.ending(c.id)) return;
    if (c.session && !c.acknowledged) return;
    if (c.session && !c.lifetime.keep && c.lifetime.target != signal_target::process &&
        lifetimes_.anyone_left(c))
        return;
    if (session* s = find(c.session)) --s->children;
    children_.forget(c.id);
}

}  // namespace cleanfork::daemon
