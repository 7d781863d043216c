#include "forkserver/daemon/server.hpp"

#include <sys/random.h>
#include <unistd.h>

#include <algorithm>

#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

namespace {

// Of a private forkserver: the session of the program that started it. Others were
// opened for its descendants.
constexpr session_id k_owner{1};

std::string new_instance() {
    unsigned char bytes[16];
    for (std::size_t done = 0; done < sizeof bytes;) {
        const ssize_t n = ::getrandom(bytes + done, sizeof bytes - done, 0);
        if (n > 0) done += static_cast<std::size_t>(n);
    }
    std::string text;
    for (const unsigned char b : bytes) {
        text += "0123456789abcdef"[b >> 4];
        text += "0123456789abcdef"[b & 15];
    }
    return text;
}

}  // namespace

quotas fitted(quotas q, std::size_t descriptor_limit) {
    q.sessions_per_uid =
        std::min(q.sessions_per_uid, std::max<std::size_t>(descriptor_limit / 4, 1));
    q.queued_descriptors_per_session = std::min(
        q.queued_descriptors_per_session, std::max(descriptor_limit / 8, ipc::k_max_descriptors));
    return q;
}

server::server(boost::asio::io_context& io, server_config config, spawn::launcher launcher,
               unique_fd watch, logger& log, std::function<void()> on_finished)
    : io_(io),
      config_(std::move(config)),
      log_(log),
      launcher_(std::move(launcher)),
      children_(
          io, std::move(watch), [this](child& c) { child_exited(c); },
          [this] {
              for (const session_id id : to_flush_)
                  if (session* s = find(id)) s->flush_exits();
              to_flush_.clear();
              finish_if_done();
          }),
      lifetimes_(io, children_, config_.features,
                 [this](child_id id) {
                     if (child* c = children_.find(id)) forget_if_done(*c);
                     finish_if_done();
                 }),
      orphans_(io, launcher_, children_),
      templates_(io, launcher_, children_, log_, *this),
      hold_timer_(io),
      on_finished_(std::move(on_finished)),
      instance_(new_instance()),
      started_ns_(ipc::monotonic_ns()) {}

session* server::find(session_id id) {
    const auto at = sessions_.find(id);
    return at == sessions_.end() ? nullptr : at->second.get();
}

void server::add_session(unique_fd socket) {
    const auto peer = ipc::peer_of(socket.get());
    const auto s = std::make_shared<session>(io_, launcher_.own_descriptor(std::move(socket)),
                                             session_id(++sessions_total_),
                                             static_cast<session_owner&>(*this));
    sessions_.emplace(s->id(), s);
    if (!peer) return s->end(peer.error());
    if (peer->uid != ::geteuid()) {
        log_.warning("session_refused",
                     {{"uid", std::uint64_t{peer->uid}}, {"pid", std::int64_t{peer->pid}}});
        return s->end(ipc::fail(step::hello, EPERM, "uid " + std::to_string(peer->uid),
                                "a forkserver serves the user it runs as, and no other"));
    }
    if (sessions_.size() > config_.quotas.sessions_per_uid) {
        ++quota_refusals_total_;
        return s->end(ipc::fail(step::quota, EDQUOT, "sessions",
                                "RESOURCE_EXHAUSTED: at most " +
                                    std::to_string(config_.quotas.sessions_per_uid) +
                                    " sessions of one user (--max-sessions)"));
    }
    log_.info("session_began",
              {{"session", s->id().value()}, {"peer_pid", std::int64_t{peer->pid}}});
    s->start();
}

void server::on_turn_end() {
    if (!pumping_) pump();
}

void server::on_end(session& s, const failure& why) {
    if (why.step == step::protocol) ++protocol_errors_total_;
    const std::string text = why.step == step::none ? why.detail : why.message();
    if (why.step == step::none)
        log_.info("session_ended", {{"session", s.id().value()}, {"why", text}});
    else
        log_.warning("session_ended", {{"session", s.id().value()}, {"why", text}});
    // A child may outlive any number of those who waited for it.
    if (s.waits != 0)
        children_.each([&s](child& c) {
            std::erase_if(c.waiters, [&s](const exit_waiter& w) { return w.session == s.id(); });
        });
    session_is_over(s.id());
}

// For whatever reason it is over: what it asked for and did not get is dropped,
// what it got meets its lifetime.
void server::session_is_over(session_id id) {
    sessions_.erase(id);
    queue_.remove_session(id);
    templates_.session_is_over(id);
    for (const child_id which : children_.of_session(id)) {
        child& c = *children_.find(which);
        c.session = {};
        c.held_request = {};
        if (!c.lifetime.keep && !shutting_down_) lifetimes_.end(c);
        // end() may have forgotten it.
        if (child* left = children_.find(which);
            left != nullptr && left->exit && !lifetimes_.ending(which)) {
            if (left->lifetime.keep && !left->acknowledged)
                unclaimed_.push_back(which);
            else
                children_.forget(which);
        }
    }
    bound_unclaimed();
    if (config_.is_private && id == k_owner && !shutting_down_) shut_down("the owner has gone");
    finish_if_done();
}

// Statuses that belong to nobody are kept for `cleanfork wait`, up to a number.
void server::bound_unclaimed() {
    while (unclaimed_.size() > config_.quotas.unclaimed_statuses) {
        const child_id id = unclaimed_.front();
        unclaimed_.pop_front();
        const child* c = children_.find(id);
        if (c == nullptr || c->session) continue;
        log_.warning("status_dropped", {{"child", id.value()}});
        children_.forget(id);
    }
}

void server::shut_down(std::string_view reason) {
    const bool again = shutting_down_;
    shutting_down_ = true;
    log_.info("shutdown", {{"reason", reason},
                           {"children", std::uint64_t{children_.alive()}},
                           {"again", std::uint64_t{again}}});
    if (!again && on_shutdown) on_shutdown();
    const failure ending = ipc::fail(step::shutdown, ESHUTDOWN, {}, "the forkserver is ending");
    while (auto q = queue_.pop()) answer(*q, result<child*>(ending));
    templates_.shut_down(ending);
    std::vector<child_id> ids;
    children_.each([&](child& c) {
        if (!c.lifetime.keep && !c.process_of) ids.push_back(c.id);
    });
    for (const child_id id : ids)
        if (child* c = children_.find(id)) lifetimes_.end(*c, again);
    finish_if_done();
}

void server::finish_if_done() {
    if (!shutting_down_ || finished_ || !lifetimes_.idle()) return;
    finished_ = true;
    templates_.kill_all();
    on_finished_();
}

}  // namespace cleanfork::daemon
