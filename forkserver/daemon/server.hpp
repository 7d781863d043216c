// The forkserver: sessions, their requests, and what they asked for.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "forkserver/daemon/children/child_table.hpp"
#include "forkserver/daemon/children/lifetimes.hpp"
#include "forkserver/daemon/children/orphans.hpp"
#include "forkserver/daemon/log.hpp"
#include "forkserver/daemon/sessions/session.hpp"
#include "forkserver/daemon/sessions/spawn_queue.hpp"
#include "forkserver/daemon/templates/template_table.hpp"
#include "forkserver/spawn/launcher.hpp"
#include "ipc/base/features.hpp"
#include "ipc/wire/limits.hpp"

namespace cleanfork::daemon {

struct quotas {
    std::size_t sessions_per_uid = ipc::k_default_sessions_per_uid;
    std::size_t children_per_session = ipc::k_default_children_per_session;
    std::size_t queued_per_session = ipc::k_default_queued_per_session;
    std::size_t queued_bytes_per_session = ipc::k_default_queued_bytes_per_session;
    std::size_t queued_descriptors_per_session = ipc::k_default_queued_descriptors_per_session;
    std::size_t unclaimed_statuses = ipc::k_default_unclaimed_statuses;
};

// Quotas that leave descriptors for everybody: a flood of connections, or of
// descriptors that wait with their spawns, does not use up `descriptor_limit`.
quotas fitted(quotas q, std::size_t descriptor_limit);

struct server_config {
    daemon::quotas quotas;
    std::size_t descriptor_limit = 1024;  // RLIMIT_NOFILE
    ipc::feature_set features;
    std::string version;
    bool is_private = false;  // ends with its first session
};

// A quota of one session was reached.
failure resource_exhausted(const char* what, std::size_t most, const char* option);

class server final : private session_owner, private template_table_owner {
public:
    // `on_finished` is called once, when a shutdown is complete.
    server(boost::asio::io_context& io, server_config config, spawn::launcher launcher,
           unique_fd watch, logger& log, std::function<void()> on_finished);

    // Takes a connected socket. Over the quota, or of another user, it is told why and closed.
    void add_session(unique_fd socket);

    // Takes no more spawns and ends every child by its lifetime; the second
    // call kills at once. Called by signals and by a client.
    void shut_down(std::string_view reason);
    // Takes over the template that was forked early from the program of this forkserver.
    result<void> add_early_template(const std::string& name, int pid, unique_fd control);
    // What to do when that begins (stop listening).
    std::function<void()> on_shutdown;

private:
    // session_owner
    void on_message(session& s, ipc::decoded<v1::ClientMessage> m) override;
    void on_turn_end() override;
    void on_end(session& s, const failure& why) override;

    // requests.cpp: one for each kind of request
    void hello(session& s, ipc::decoded<v1::ClientMessage>& m);
    void update_base(session& s, ipc::decoded<v1::ClientMessage>& m);
    void open_session(session& s, ipc::decoded<v1::ClientMessage>& m);
    void signal(session& s, request_id request, const v1::SignalRequest& r);
    void wait(session& s, request_id request, const v1::WaitRequest& r);
    void list(session& s, request_id request);
    void stats(session& s, request_id request);
    void cancel(session& s, request_id request, const v1::CancelRequest& r);
    void acknowledge(session& s, const v1::ClientMessage& m);
    failure set_base(session& s, v1::SessionBase& base, ipc::decoded<v1::ClientMessage>& m);

    // template_requests.cpp
    bool on_template_message(session& s, ipc::decoded<v1::ClientMessage>& m);
    result<void> add_template(session& s, ipc::decoded<v1::ClientMessage>& m);
    void template_settled(session_id session, v1::ServerMessage reply) override;

    // calls.cpp: a spawn whose child a template forks
    void run_call(queued_spawn q);
    child_id call_started(queued_spawn q, generation_id generation,
                          ipc::process_ref process) override;
    void call_failed(queued_spawn q, const failure& why) override;
    void charge(const queued_spawn& q);
    void discharge(const queued_spawn& q);

    // spawns.cpp: from the queue to the process, and its end
    void enqueue_spawn(session& s, ipc::decoded<v1::ClientMessage>& m);
    void enqueue_batch(session& s, ipc::decoded<v1::ClientMessage>& m);
    [[nodiscard]] failure over_quota(const session& s, std::size_t spawns, std::size_t bytes,
                                     std::size_t descriptors) const;
    [[nodiscard]] bool leaves_descriptors(const session& s) const;
    void pump();
    void run(queued_spawn q);
    void finish(queued_spawn q, const result<child*>& r);
    [[nodiscard]] failure refusal(const queued_spawn& q);
    result<child*> spawn_now(queued_spawn& q);
    void answer(const queued_spawn& q, const result<child*>& r);
    void answer_item(const queued_spawn& q, const result<child*>& r);
    void hold_reply(const queued_spawn& q, child& c);
    void release_held(child& c);
    void arm_hold_timer();
    void expire_holds();
    void tell_exit(child& c);
    void child_exited(child& c);
    // False when no session that asked is there any more.
    bool tell_waiters(child& c);
    void forget_if_done(child& c);

    session* find(session_id id);
    void session_is_over(session_id id);
    void bound_unclaimed();
    void finish_if_done();

    boost::asio::io_context& io_;
    server_config config_;
    logger& log_;
    spawn::launcher launcher_;
    child_table children_;
    lifetimes lifetimes_;
    orphans orphans_;
    template_table templates_;
    spawn_queue queue_;
    std::unordered_map<session_id, std::shared_ptr<session>> sessions_;
    std::vector<session_id> to_flush_;  // sessions with exits to tell
    std::deque<child_id> unclaimed_;    // exited children without a session, oldest first
    boost::asio::steady_timer hold_timer_;
    std::deque<std::pair<std::chrono::steady_clock::time_point, child_id>> holds_;
    bool hold_armed_ = false;
    bool pumping_ = false;
    bool shutting_down_ = false;
    bool finished_ = false;
    std::function<void()> on_finished_;

    std::string instance_;
    std::uint64_t started_ns_;
    std::uint64_t sessions_total_ = 0;
    std::uint64_t spawned_total_ = 0;
    std::uint64_t failed_total_ = 0;
    std::uint64_t protocol_errors_total_ = 0;
    std::uint64_t quota_refusals_total_ = 0;
    std::uint64_t spawn_ns_total_ = 0;
    std::uint64_t spawn_ns_max_ = 0;
};

}  // namespace cleanfork::daemon
