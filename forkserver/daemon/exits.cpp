#include "forkserver/daemon/exits.hpp"

#include <sys/wait.h>

#include "forkserver/daemon/loop/boundary.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

namespace {

// After this many the others get their turn.
constexpr std::size_t k_ends_a_turn = 64;
constexpr std::size_t k_visits_a_turn = 1024;

// What is the forkserver's own, or was only held ready, is nobody's child.
bool is_told(const child& c) {
    return !c.origin.process_of && !c.origin.is_service && !c.exit->is_unused;
}

}  // namespace

exits::exits(core& c, child_table& children, lifetimes& ends, template_table& templates,
             leases& out, spawns& spawning, restarts& again)
    : core_(c),
      children_(children),
      lifetimes_(ends),
      templates_(templates),
      leases_(out),
      spawns_(spawning),
      restarts_(again),
      unclaimed_(children, c.log, c.config.quotas.unclaimed_statuses) {
    visited_.reserve(k_visits_a_turn);
}

void exits::log(const child& c) {
    const int s = c.exit->wait_status;
    const bool known = c.exit->known;
    const v1::Usage& used = c.exit->usage;
    const std::string_view how = !known ? "unknown" : WIFSIGNALED(s) ? "signal" : "exit";
    const int number = !known ? 0 : WIFSIGNALED(s) ? WTERMSIG(s) : WEXITSTATUS(s);
    core_.log.debug("exited", {{"session", c.origin.session.value()},
                               {"child", c.id.value()},
                               {"pid", std::int64_t{c.process.pid()}},
                               {"how", how},
                               {"number", std::int64_t{number}},
                               {"wall_ns", c.exit->wall_ns},
                               {"cpu_us", used.user_us() + used.system_us()},
                               {"max_rss_kib", used.max_rss_kib()},
                               {"template", c.origin.template_name},
                               {"traceparent", c.origin.trace_parent},
                               {"command", c.origin.command, true}});
}

void exits::on_exit(child& c) {
    if (is_told(c)) {
        bounded(core_.io, "log", [&] { log(c); });
        metrics& m = core_.measured;
        c.exit->known ? m.count_exit(c.exit->wait_status) : void(++m.unknown);
    }
    // Its client may have ended between the call and the word of it.
    if (c.lease && !c.exit->is_unused) templates_.call_began(c.origin.template_name);
    leases_.is_over(c);
    if (c.origin.forked_by) templates_.child_ended(c.origin.forked_by, c.id);
    if (c.origin.process_of) {
        templates_.process_ended(c.origin.process_of, c.process.pid(), c.exit->wait_status);
        return children_.forget(c.id);
    }
    if (!restarts_.takes(c)) over(c);
}

void exits::over(child& c) {
    if (c.origin.is_service) return children_.forget(c.id);
    bool told = false;
    try {
        if (c.held_request)
            spawns_.release_reply(c);
        else if (!c.reply_pending)
            tell(c);
        told = tell_waiters(c);
    } catch (...) {
        // Better no session than one that waits for ever: its client has the pidfd.
        const failure why = caught(core_.io, "exit of a child");
        if (session* s = core_.sessions.find(c.origin.session)) s->end_later(why);
    }
    const child_id id = c.id;
    lifetimes_.child_exited(c);
    child* left = children_.find(id);
    if (left == nullptr || left->origin.session) return;
    const bool keep = left->origin.lifetime.keep && !left->exit->is_unused;
    if (told || (!keep && !left->ending)) {
        left->acknowledged = true;
        return forget_if_done(*left);
    }
    if (keep) unclaimed_.add(*left);
}

void exits::tell(child& c) {
    session* s = core_.sessions.find(c.origin.session);
    if (s == nullptr) return;
    v1::Exit exit;
    to_wire(c, exit);
    s->add_exit(std::move(exit));
    to_flush_.push_back(s->id());
}

void exits::flush() {
    for (const session_id id : to_flush_)
        if (session* s = core_.sessions.find(id)) s->flush_exits();
    to_flush_.clear();
}

bool exits::tell_waiters(child& c) {
    bool told = false;
    for (const exit_waiter& w : std::exchange(c.waiters, {})) {
        session* s = core_.sessions.find(w.session);
        if (s == nullptr) continue;
        told = true;
        v1::ServerMessage reply;
        reply.set_request_id(w.request.value());
        to_wire(c, *reply.mutable_wait()->mutable_exit());
        s->send(reply);
    }
    return told;
}

void exits::wait(session& s, request_id request, child_id id) {
    child* c = children_.find(id);
    if (c == nullptr)
        return s.send_failure(request,
                              ipc::fail(step::wait, ESRCH, "child " + std::to_string(id.value())));
    const std::size_t most = core_.config.quotas.queued_per_session;
    if (s.account->waits >= most)
        return s.send_failure(request, core_.over_quota("waits", most, "--max-queued"));
    c->waiters.push_back({s.id(), request, charge(s.account, {.waits = 1})});
    if (!c->exit) return;
    tell_waiters(*c);
    if (c->origin.session) return;
    c->acknowledged = true;
    forget_if_done(*c);
}

void exits::acknowledge(const session& s, child_id id) {
    child* c = children_.find(id);
    if (c == nullptr || c->origin.session != s.id() || !c->exit) return;
    c->acknowledged = true;
    forget_if_done(*c);
}

void exits::leave_rest(const session& s, child_id id) {
    child* c = children_.find(id);
    if (c == nullptr || c->origin.session != s.id() || !c->exit || c->ending) return;
    c->origin.lifetime.keep = true;
    forget_if_done(*c);
}

// A leader's group or cgroup may outlive it: the child stays known until the
// session ends, when its lifetime is for them.
void exits::forget_if_done(child& c) {
    const child_origin& o = c.origin;
    if (!c.exit || c.ending) return;
    if (o.session && !c.acknowledged) return;
    if (o.session && !o.lifetime.keep && o.lifetime.target != signal_target::process &&
        lifetimes_.anyone_left(c))
        return;
    children_.forget(c.id);
}

void exits::end_session(const session& s) {
    ended_.push_back({s.id(), s.account->waits != 0, {}});
    if (!ending_) end_some();
}

void exits::end_some() {
    ending_ = false;
    ended_session& e = ended_.front();
    visited_.clear();
    child_id next = children_.after(e.next, k_visits_a_turn, visited_);
    std::size_t left = k_ends_a_turn;
    for (const child_id which : visited_) {
        if (left == 0) {
            next = which;
            break;
        }
        child* c = children_.find(which);
        if (c == nullptr) continue;
        // A child may outlive any number of those who waited for it.
        if (e.waits)
            std::erase_if(c->waiters, [&](const exit_waiter& w) { return w.session == e.id; });
        if (c->origin.session != e.id) continue;
        --left;
        bounded(core_.io, "end of a session", [&] { end_of_session(*c); });
    }
    e.next = next;
    if (!next) ended_.pop_front();
    if (ended_.empty()) return;
    post_bounded(core_.io, "end of a session", [this] { end_some(); });
    ending_ = true;
}

void exits::end_of_session(child& c) {
    const child_id which = c.id;
    c.origin.session = {};
    c.origin.place.give_back();
    c.held_request = {};
    // One that could not be ended in full keeps no other from its end.
    if (!c.origin.lifetime.keep && !core_.shutting_down)
        bounded(core_.io, "end of a session", [&] { lifetimes_.end(c); });
    // end() may have forgotten it.
    child* left = children_.find(which);
    if (left == nullptr || !left->exit || left->ending) return;
    if (left->origin.lifetime.keep && !left->acknowledged && !left->exit->is_unused)
        unclaimed_.add(*left);
    else
        children_.forget(which);
}

}  // namespace cleanfork::daemon
