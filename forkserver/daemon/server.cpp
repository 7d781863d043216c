#include "forkserver/daemon/server.hpp"

#include <unistd.h>

#include <algorithm>

#include "forkserver/daemon/loop/boundary.hpp"
#include "ipc/base/fd.hpp"
#include "ipc/base/process_ref.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

namespace {

// Of a private forkserver: the session of the program that started it. Others were
// opened for its descendants.
constexpr session_id k_owner{1};
// After this many the others get their turn.
constexpr std::size_t k_shutdowns_a_turn = 64;
constexpr std::uint64_t k_long_turn_ns = 50'000'000;

}  // namespace

server::server(event_loop& io, server_config config, spawn::launcher launcher, logger& log,
               server_owner& owner)
    : owner_(owner),
      core_(io, std::move(config), std::move(launcher), log),
      events_(core_),
      children_(io, *this),
      leases_(io, children_, core_.config.quotas.lease_idle_ms),
      lifetimes_(io, children_, core_.config.features, log, *this),
      orphans_(io, core_.launcher, children_, births_),
      births_(io, *this),
      restarts_(io, core_.launcher, children_, births_, core_.closing, log, *this),
      spawns_(core_, children_, templates_, leases_, restarts_, births_),
      templates_(io, core_.launcher, children_, births_, leases_, log, spawns_),
      file_templates_(core_, templates_, orphans_),
      exits_(core_, children_, lifetimes_, templates_, leases_, spawns_, restarts_),
      dispatch_({core_, children_, lifetimes_, orphans_, restarts_, births_, templates_, leases_,
                 spawns_, exits_, events_},
                *this) {
    visited_.reserve(k_shutdowns_a_turn);
}

// Each by its own close, which is one also for a process that shares the table and does not end.
server::~server() {
    core_.closing->stop();
    core_.sessions.hang_up_all();
}

result<void> server::begin() {
    // While there are descriptors: without one it is not known later what a pidfd is.
    (void)ipc::look_at_pidfd(ipc::pidfd_open(::getpid()).get());
    return ::getpid() == 1 ? orphans_.adopt_from_now_on() : result<void>();
}

// ---- sessions --------------------------------------------------------------

void server::add_session(unique_fd socket) {
    std::shared_ptr<session> s;
    try {
        begin_session(socket, s);
    } catch (...) {  // else it would be closed without a word, or nobody would read it
        const failure why = caught(core_.io, "connection");
        if (socket) {
            bounded(core_.io, "connection", [&] { session::tell_last(why, socket.get()); });
            refuse(std::move(socket));
        } else if (s) {
            s->end(why);
        }
    }
}

// The socket is the session's once it has one.
void server::begin_session(unique_fd& socket, std::shared_ptr<session>& s) {
    const auto peer = ipc::peer_of(socket.get());
    const int untold = ipc::tell_senders(socket.get());
    socket = core_.launcher.own_descriptor(std::move(socket));
    s = std::make_shared<session>(core_.io, session_id(++core_.total.sessions), core_.of_user,
                                  static_cast<session_owner&>(*this));
    if (const int e = s->take(socket)) {
        const failure why = ipc::fail(step::hello, e, "socket",
                                      "RESOURCE_EXHAUSTED: the forkserver cannot watch it");
        core_.log.warning("session_refused", {{"why", why.message()}});
        bounded(core_.io, "session", [&] { session::tell_last(why, socket.get()); });
        return refuse(std::move(socket));
    }
    core_.sessions.add(s);
    if (!peer) return s->end(peer.error());
    if (untold != 0) return s->end(ipc::fail(step::hello, untold, "SO_PASSCRED"));
    if (peer->uid != ::geteuid()) {
        core_.log.warning("session_refused",
                          {{"uid", std::uint64_t{peer->uid}}, {"pid", std::int64_t{peer->pid}}});
        return s->end(ipc::fail(step::hello, EPERM, "uid " + std::to_string(peer->uid),
                                "a forkserver serves the user it runs as, and no other"));
    }
    const std::size_t most = core_.config.quotas.sessions_per_uid;
    if (core_.sessions.size() > most) {
        ++core_.total.quota_refusals;
        return s->end(ipc::fail(step::quota, EDQUOT, "sessions",
                                "RESOURCE_EXHAUSTED: at most " + std::to_string(most) +
                                    " sessions of one user (--max-sessions)"));
    }
    core_.log.info("session_began",
                   {{"session", s->id().value()}, {"peer_pid", std::int64_t{peer->pid}}});
    s->start();
}

void server::on_message(session& s, ipc::decoded<v1::ClientMessage>& m) {
    dispatch_.on_message(s, m);
}

void server::on_end(session& s, const failure& why) {
    if (why.step == step::protocol) ++core_.total.protocol_errors;
    const std::string text = why.step == step::none ? why.detail : why.message();
    if (why.step == step::none)
        core_.log.info("session_ended", {{"session", s.id().value()}, {"why", text}});
    else
        core_.log.warning("session_ended", {{"session", s.id().value()}, {"why", text}});
    const session_id id = s.id();
    core_.sessions.erase(id);
    events_.session_is_over(id);
    spawns_.drop(id);
    exits_.end_session(s);
    if (core_.config.is_private && id == k_owner && !core_.shutting_down)
        shut_down("the owner has gone");
    finish_if_done();
}

// ---- settings --------------------------------------------------------------

void server::set_quotas(const quotas& most) noexcept {
    core_.config.quotas = most;
    exits_.keep_unclaimed(most.unclaimed_statuses);
}

void server::start_templates(const file_templates::definitions& wanted) {
    if (!core_.shutting_down) file_templates_.apply(wanted);
}

// ---- exits -----------------------------------------------------------------

void server::on_exits_drained() {
    exits_.flush();
    finish_if_done();
}

void server::on_lifetime_over(child& c) {
    exits_.forget_if_done(c);
    finish_if_done();
}

// ---- templates -------------------------------------------------------------

result<void> server::add_early_template(const std::string& name, int pid, unique_fd control) {
    if (auto ready = orphans_.adopt_from_now_on(); !ready) return ready;
    return templates_.add_early(name, pid, std::move(control));
}

void server::on_turn(std::uint64_t ns) {
    if (ns == 0) return;
    core_.total.turn_ns_max = std::max(core_.total.turn_ns_max, ns);
    core_.measured.turns.add(ns);
    if (ns > k_long_turn_ns) core_.log.warning("long_turn", {{"ms", ns / 1'000'000}});
}

// ---- its end ---------------------------------------------------------------

void server::shut_down(std::string_view reason) {
    const bool again = core_.shutting_down;
    core_.shutting_down = true;
    core_.log.info("shutdown", {{"reason", reason},
                                {"children", std::uint64_t{children_.alive()}},
                                {"again", std::uint64_t{again}}});
    if (!again) owner_.on_shutdown();
    spawns_.fail_queued(core::ending());
    templates_.shut_down(core::ending());
    restarts_.stop_all();
    pace_ = again ? lifetimes::pace::at_once : lifetimes::pace::lifetime;
    end_from_ = {};
    if (ending_) return;
    ending_ = true;
    end_some();
}

// Of all children, some in each turn of the loop.
void server::end_some() {
    visited_.clear();
    end_from_ = children_.after(end_from_, k_shutdowns_a_turn, visited_);
    for (const child_id id : visited_) {
        child* c = children_.find(id);
        if (c == nullptr || c->origin.lifetime.keep || c->origin.process_of) continue;
        bounded(core_.io, "end of a child", [&] { lifetimes_.end(*c, pace_); });
    }
    ending_ = bool(end_from_);
    if (ending_) return post_bounded(core_.io, "end", [this] { end_some(); });
    finish_if_done();
}

void server::finish_if_done() {
    if (!core_.shutting_down || ending_ || finished_ || !lifetimes_.idle()) return;
    finished_ = true;
    templates_.kill_all();
    owner_.on_finished();
}

}  // namespace cleanfork::daemon
