// The forkserver: its parts, the sessions, and its end.
#pragma once

#include <string>

#include "forkserver/daemon/children/lifetimes.hpp"
#include "forkserver/daemon/children/orphans.hpp"
#include "forkserver/daemon/core.hpp"
#include "forkserver/daemon/dispatch.hpp"
#include "forkserver/daemon/exits.hpp"
#include "forkserver/daemon/file_templates.hpp"
#include "forkserver/daemon/loop/event_loop.hpp"
#include "forkserver/daemon/spawns.hpp"
#include "forkserver/daemon/templates/template_table.hpp"

namespace cleanfork::daemon {

// What the server tells its owner.
class server_owner {
public:
    // A shutdown begins: no more connections.
    virtual void on_shutdown() = 0;
    // It is complete. Called once.
    virtual void on_finished() = 0;

protected:
    ~server_owner() = default;
};

class server final : private session_owner,
                     private child_table_owner,
                     private lifetimes_owner,
                     private restarts_owner,
                     private births_owner,
                     private dispatch_owner {
public:
    // Of what it has of clients the end of the process takes care.
    ~server();
    server(const server&) = delete;
    server& operator=(const server&) = delete;
    server(event_loop& io, server_config config, spawn::launcher launcher, logger& log,
           server_owner& owner);

    // To be called once, before anything else.
    result<void> begin();

    // Takes a connected socket. Over the quota, or of another user, it is told why and closed.
    void add_session(unique_fd socket) override;

    // Closes a socket that is to be no session.
    void refuse(unique_fd socket) { core_.closing->dispose(std::move(socket)); }

    // For what is asked from now on: nothing that is there is taken from anybody.
    void set_quotas(const quotas& most) noexcept;
    // Those that the file names; again: those that it names now.
    void start_templates(const file_templates::definitions& wanted);

    // A turn of the loop took so long.
    void on_turn(std::uint64_t ns);

    // Takes no more spawns and ends every child by its lifetime; the second
    // call kills at once. Called by signals and by a client.
    void shut_down(std::string_view reason) override;
    // Takes over the template that was forked early from the program of this forkserver.
    result<void> add_early_template(const std::string& name, int pid, unique_fd control);

private:
    void begin_session(unique_fd& socket, std::shared_ptr<session>& s);
    // session_owner
    void on_message(session& s, ipc::decoded<v1::ClientMessage>& m) override;
    void on_turn_end() override { spawns_.pump(); }
    void on_end(session& s, const failure& why) override;
    void dispose(std::vector<unique_fd> fds) noexcept override {
        core_.closing->dispose(std::move(fds));
    }

    // child_table_owner
    void on_exit(child& c) override { exits_.on_exit(c); }
    void on_exits_drained() override;

    // lifetimes_owner
    void on_lifetime_over(child& c) override;

    // births_owner
    void on_births_looked_at() override { spawns_.pump(); }

    // restarts_owner
    void on_over(child& c) override { exits_.over(c); }
    void on_restarts_drained() override { on_exits_drained(); }

    void end_some();
    void finish_if_done();

    server_owner& owner_;
    core core_;
    event_ring events_;
    child_table children_;
    leases leases_;
    lifetimes lifetimes_;
    orphans orphans_;
    births births_;
    restarts restarts_;
    spawns spawns_;
    template_table templates_;
    file_templates file_templates_;
    exits exits_;
    dispatch dispatch_;
    // Of a shutdown that goes through the children: the next of them, and how they are ended.
    bool ending_ = false;
    child_id end_from_;
    lifetimes::pace pace_ = lifetimes::pace::lifetime;
    std::vector<child_id> visited_;  // in one turn; has room for all of them
    bool finished_ = false;
};

}  // namespace cleanfork::daemon
