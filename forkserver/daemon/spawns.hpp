// The way of a spawn: from a request to the queue, to a process, and to its reply.
#pragma once

#include "forkserver/daemon/children/births.hpp"
#include "forkserver/daemon/children/restarts.hpp"
#include "forkserver/daemon/core.hpp"
#include "forkserver/daemon/sessions/held_replies.hpp"
#include "forkserver/daemon/sessions/spawn_queue.hpp"
#include "forkserver/daemon/templates/template_table.hpp"

namespace cleanfork::daemon {

class spawns final : public template_table_owner, private held_replies_owner {
public:
    spawns(core& c, child_table& children, template_table& templates, leases& out, restarts& again,
           births& begin);

    void enqueue(session& s, ipc::decoded<v1::ClientMessage>& m);
    void enqueue_batch(session& s, ipc::decoded<v1::ClientMessage>& m);
    // Begins what is queued, one spawn a turn of the loop.
    void pump();
    // What a request asked for and has not begun is answered with `why`; true when there
    // was any.
    bool cancel(session_id session, request_id request, const failure& why);
    // The same for all that is queued, in no template yet.
    void fail_queued(const failure& why);
    // What the session asked for and did not get is dropped.
    void drop(session_id session);

    // Who may use what is leased by the request at hand: queued_spawn::lease_of.
    [[nodiscard]] static std::int64_t lease_of(const session& s);
    // The client has sent a leased child its call.
    void lease_used(session& s, const v1::LeaseUse& use);

    // Sends the reply that waits for the exit; with the exit when there is one.
    void release_reply(child& c);

    [[nodiscard]] std::size_t queued() const noexcept { return queue_.size(); }

private:
    // template_table_owner: a spawn whose child a template forks
    child_id on_call_started(queued_spawn q, generation_id generation,
                             ipc::process_ref process) override;
    void on_call_failed(queued_spawn q, const failure& why) override;
    void on_template_settled(session_id session, v1::ServerMessage reply) override;

    // held_replies_owner
    [[nodiscard]] bool is_held(child_id child) override;
    void on_held_long_enough(child_id child) override;

    [[nodiscard]] failure over_quota(const session& s, const amounts& more);
    [[nodiscard]] bool leaves_descriptors(const session& s) const;
    [[nodiscard]] failure refusal(const queued_spawn& q);
    [[nodiscard]] bool has_room_for_lease(const session& s) const;
    [[nodiscard]] failure prepare_lease(queued_spawn& q);
    void begin_lease(child& c, generation_id from, queued_spawn& q);
    void make_room(const session& s);
    void begin(queued_spawn q);
    void try_to_begin(queued_spawn q);
    void thrown(const queued_spawn& who) noexcept;
    static void abandon(child& c);
    void begin_call(queued_spawn q);
    // What a child is to be once its process has begun its program.
    struct expected {
        child_origin origin;
        std::unique_ptr<child_restart> restart;
    };
    class late_spawn;
    // Null when its process takes longer: then the spawn is no longer the caller's, and is
    // finished when it has begun.
    result<child*> begin_exec(queued_spawn& q, bool is_service);
    result<expected> expect(queued_spawn& q);
    result<child*> take_in(expected e, spawn::spawned process);
    void begun_late(queued_spawn q, expected e, result<spawn::spawned> process);
    child_id add_called(const queued_spawn& q, generation_id generation, ipc::process_ref process);
    result<void> begin_log_writers(queued_spawn& q);
    [[nodiscard]] charge place_of_child(session_id session) const;
    void finish(queued_spawn q, const result<child*>& r);
    void has_begun(const queued_spawn& q, const child& c);
    void log_spawned(const child& c, std::string_view kind);
    void answer(const queued_spawn& q, const result<child*>& r);
    void answer_item(const queued_spawn& q, const result<child*>& r);
    void answer_batch(const queued_spawn& q);

    core& core_;
    child_table& children_;
    template_table& templates_;
    leases& leases_;
    restarts& restarts_;
    births& births_;
    spawn_queue queue_;
    tree_cgroups trees_;
    held_replies held_;
    bool pumping_ = false;
    // By the spawn at hand: a process, which may have begun its program; and the child that it is.
    bool has_process_ = false;
    child_id begun_;
};

}  // namespace cleanfork::daemon
