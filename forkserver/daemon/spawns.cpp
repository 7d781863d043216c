#include "forkserver/daemon/spawns.hpp"

#include <algorithm>
#include <cassert>
#include <csignal>

#include "forkserver/daemon/children/tree.hpp"
#include "forkserver/daemon/loop/boundary.hpp"
#include "forkserver/daemon/origins.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

namespace {

// Standard, event loop, signals, listener, closers, and the few a spawn needs for a moment.
constexpr std::size_t k_own_descriptors = 96;
constexpr std::size_t k_share_left = 8;

queued_spawn from_packet(const session& s, const ipc::decoded<v1::ClientMessage>& m,
                         spawn::shared_descriptors descriptors) {
    queued_spawn q;
    q.session = s.id();
    q.received_ns = ipc::monotonic_ns();
    q.request_id = request_id(m.message.request_id());
    q.purposes.assign(m.message.descriptors().begin(), m.message.descriptors().end());
    q.descriptors = std::move(descriptors);
    q.base = s.base;
    q.lease_of = spawns::lease_of(s);
    return q;
}

// Whom to answer.
queued_spawn stub_of(const queued_spawn& q) {
    queued_spawn who;
    who.session = q.session;
    who.request_id = q.request_id;
    who.batch = q.batch;
    who.item = q.item;
    return who;
}

// About what a request takes as long as it waits: its bytes, and for each of its words an object.
std::size_t memory_of(const v1::SpawnRequest& r, std::size_t bytes) {
    const int words = r.exec().argv_size() + r.call().arguments_size() +
                      r.environment().set_size() + r.environment().unset_size() +
                      r.descriptors_size();
    return sizeof(queued_spawn) + bytes + static_cast<std::size_t>(words) * k_memory_of_a_word;
}

}  // namespace

spawns::spawns(core& c, child_table& children, template_table& templates, leases& out,
               restarts& again, births& begin)
    : core_(c),
      children_(children),
      templates_(templates),
      leases_(out),
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
    return core_.refusal(more);
}

void spawns::enqueue(session& s, ipc::decoded<v1::ClientMessage>& m) {
    const std::size_t bytes = m.message.spawn().ByteSizeLong();
    const amounts what{.spawns = 1,
                       .bytes = bytes + s.uncharged_base_bytes,
                       .descriptors = m.descriptors.size(),
                       .memory = memory_of(m.message.spawn(), bytes)};
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
    std::size_t memory = 0;
    for (const v1::SpawnRequest& each : items) memory += memory_of(each, each.ByteSizeLong());
    if (const failure f = over_quota(
            s, {.spawns = count, .bytes = bytes, .descriptors = descriptors, .memory = memory});
        f.step != step::none)
        return s.send_failure(request, f);
    s.uncharged_base_bytes = 0;
    const auto group = std::make_shared<batch>();
    group->left = count;
    group->reply.set_request_id(request.value());
    for (std::size_t i = 0; i < count; ++i) group->reply.mutable_batch()->add_items();
    group->reply.mutable_descriptors()->Reserve(static_cast<int>(count));
    group->children.reserve(count);
    const spawn::shared_descriptors of_all = spawn::share(std::move(m.descriptors), core_.closing);
    for (std::size_t i = 0; i < count; ++i) {
        queued_spawn q = from_packet(s, m, of_all);
        q.place = charge(s.account, {.spawns = 1,
                                     .bytes = bytes / count,
                                     .descriptors = descriptors,
                                     .memory = memory / count});
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
    if (queue_.empty()) return births_.await_fresh();
    births_.tell_begun();
    pumping_ = true;
    post_bounded(core_.io, "spawns", [this] {
        pumping_ = false;
        pump();
    });
}

void spawns::begin(queued_spawn q) {
    const queued_spawn who = stub_of(q);
    has_process_ = false;
    begun_ = {};
    try {
        try_to_begin(std::move(q));
    } catch (...) {
        thrown(who);
    }
}

void spawns::begun_late(queued_spawn q, expected e, result<spawn::spawned> process) {
    const queued_spawn who = stub_of(q);
    has_process_ = process.has_value();
    begun_ = {};
    try {
        if (!process) return finish(std::move(q), process.error());
        auto c = take_in(std::move(e), std::move(*process));
        finish(std::move(q), c);
    } catch (...) {
        thrown(who);
    }
}

// In a catch: what was thrown is the answer, and of what had begun nothing goes on.
void spawns::thrown(const queued_spawn& who) noexcept {
    failure why = caught(core_.io, "spawn");
    bounded(core_.io, "spawn", [&] {
        if (child* c = children_.find(begun_)) {
            abandon(*c);
            why.detail += "; the child was killed, and its program may have begun";
        } else if (has_process_) {  // who has thrown has killed it
            why.detail += "; its process was killed, and its program may have begun";
        }
        if (!who.batch) (void)templates_.take_back(who.session, who.request_id);
    });
    bounded(core_.io, "spawn", [&] { answer(who, why); });
}

// The client does not know of it: it is ended, and nobody told.
void spawns::abandon(child& c) {
    c.origin.session = {};
    c.origin.is_service = true;
    c.reply_pending = false;
    c.held_request = {};
    if (c.restart) c.restart->is_stopped = true;
    c.process.signal(SIGKILL);
}

void spawns::try_to_begin(queued_spawn q) {
    core_.measured.queued.add(ipc::monotonic_ns() - q.received_ns);
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
    make_room(*s);
    const std::size_t most = core_.config.quotas.children_per_session;
    if (s->account->children + s->account->calls >= most)
        return core_.over_quota("children", most, "--max-children");
    if (failure why = core_.refusal({.children = 1}); why.step != step::none) return why;
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
    if (q.asks_for_lease())
        if (const failure why = prepare_lease(q); why.step != step::none)
            return finish(std::move(q), why);
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
    const queued_spawn who = stub_of(q);
    child_id id;
    try {
        id = add_called(q, generation, std::move(process));
        if (q.lease) begin_lease(*children_.find(id), generation, q);
        finish(std::move(q), children_.find(id));
    } catch (...) {
        failure why = caught(core_.io, "call");
        if (child* c = children_.find(id)) abandon(*c);
        bounded(core_.io, "call", [&] {
            why.detail += "; its child was killed, and its entry may have begun";
            answer(who, why);
        });
    }
    return id;
}

// What throws leaves no process.
child_id spawns::add_called(const queued_spawn& q, generation_id generation,
                            ipc::process_ref process) {
    child_origin origin;
    try {
        origin = origin_of(q);
    } catch (...) {
        process.signal(SIGKILL);
        throw;
    }
    origin.cgroup = core_.launcher.own_descriptor(cgroup_of(q));
    if (const std::uint64_t mark = q.request->tree_marker(); mark != 0)
        origin.tree = {.by = v1::TREE_MEANS_WALK, .cgroup = {}, .mark = mark};
    origin.forked_by = generation;
    origin.place = place_of_child(q.session);
    const auto added = children_.add(std::move(origin),
                                     core_.launcher.own_process(std::move(process)), q.began_ns);
    core_.total.count_spawn(ipc::monotonic_ns() - q.began_ns);
    assert(added);  // the child of a template is always taken in
    return (*added)->id;
}

void spawns::on_call_failed(queued_spawn q, const failure& why) {
    q.place.give_back();
    const queued_spawn who = stub_of(q);
    try {
        finish(std::move(q), why);
    } catch (...) {
        (void)caught(core_.io, "call");
        answer(who, why);
    }
}

void spawns::on_template_settled(session_id id, v1::ServerMessage reply) {
    if (session* s = core_.sessions.find(id)) s->send(reply);
}

}  // namespace cleanfork::daemon
