// What the server does for each kind of request.
#pragma once

#include "forkserver/daemon/children/lifetimes.hpp"
#include "forkserver/daemon/children/orphans.hpp"
#include "forkserver/daemon/core.hpp"
#include "forkserver/daemon/event_ring.hpp"
#include "forkserver/daemon/exits.hpp"
#include "forkserver/daemon/spawns.hpp"
#include "forkserver/daemon/templates/template_table.hpp"

namespace cleanfork::daemon {

// What a client may ask of the server itself.
class dispatch_owner {
public:
    // A session over this socket, for a process to which the client gives the other end.
    virtual void add_session(unique_fd socket) = 0;
    virtual void shut_down(std::string_view reason) = 0;

protected:
    ~dispatch_owner() = default;
};

class dispatch {
public:
    // The parts of the server that requests are for.
    struct parts {
        core& shared;
        child_table& children;
        lifetimes& ends;
        orphans& strays;
        restarts& again;
        births& begin;
        template_table& templates;
        leases& out;
        spawns& spawning;
        exits& ended;
        event_ring& events;
    };
    dispatch(const parts& p, dispatch_owner& owner) : parts_(p), core_(p.shared), owner_(owner) {}

    // May end the session.
    void on_message(session& s, ipc::decoded<v1::ClientMessage>& m);

private:
    using message = ipc::decoded<v1::ClientMessage>;

    // Those that take descriptors; false: the request is of another kind.
    bool on_message_with_descriptors(session& s, request_id request, message& m);
    void hello(session& s, request_id request, message& m);
    void update_base(session& s, request_id request, message& m);
    void open_session(session& s, request_id request, message& m);
    failure set_base(session& s, v1::SessionBase& base, message& m);
    void signal(session& s, request_id request, const v1::SignalRequest& r);
    void list(session& s, request_id request);
    void begin_list();
    void list_some();
    bool add_to_list();
    void stats(session& s, request_id request);
    void cancel(session& s, request_id request, const v1::CancelRequest& r);
    void shutdown(session& s, request_id request);
    void add_template(session& s, request_id request, message& m);
    void list_templates(session& s, request_id request, const v1::ListTemplatesRequest& r);
    void reload_template(session& s, request_id request, const v1::ReloadTemplateRequest& r);
    void remove_template(session& s, request_id request, const v1::RemoveTemplateRequest& r);

    parts parts_;
    core& core_;
    dispatch_owner& owner_;
    // A list in the making, who it is for, and who has asked since.
    v1::ServerMessage listing_;
    child_id list_from_;
    std::vector<std::pair<session_id, request_id>> listing_for_, to_list_;
};

}  // namespace cleanfork::daemon
