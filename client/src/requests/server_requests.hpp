// Requests about the forkserver and its children, of all sessions.
#pragma once

#include "client/src/connection/child_state.hpp"
#include "client/src/requests/request.hpp"

namespace cleanfork::detail {

struct list_request : plain_request<std::vector<child_info>> {
    static result<list_request> fill(outgoing& m, const deadline& d);
    static result<value> convert(connection& c, reply&& r);
};

struct stats_request : plain_request<server_stats> {
    static result<stats_request> fill(outgoing& m, const deadline& d);
    static result<value> convert(connection& c, reply&& r);
};

// For something that happens.
struct events_request : plain_request<event_page> {
    static constexpr cancellation cancelled = cancellation::told;
    static result<events_request> fill(outgoing& m, const deadline& d, std::uint64_t after);
    static result<value> convert(connection& c, reply&& r);
    static failure expired();
};

struct shutdown_request : plain_request<void> {
    static result<shutdown_request> fill(outgoing& m, const deadline& d);
    static result<void> convert(connection& c, reply&& r);
};

// The caller's environment and working directory become the session's.
struct update_base_request : plain_request<void> {
    static result<update_base_request> fill(outgoing& m, const deadline& d);
    static result<void> convert(connection& c, reply&& r);
};

struct signal_request : plain_request<void> {
    static result<signal_request> fill(outgoing& m, const deadline& d, ipc::child_id child,
                                       int number, signal_target target);
    static result<void> convert(connection& c, reply&& r);
};

// For the end of a child of another session.
struct wait_request : plain_request<wait_result> {
    static constexpr cancellation cancelled = cancellation::told;
    static result<wait_request> fill(outgoing& m, const deadline& d, ipc::child_id child);
    static result<value> convert(connection& c, reply&& r);
    static failure expired();
};

// For what only the forkserver can reach.
result<void> signal_by_forkserver(child_state& child, int number, signal_target target,
                                  const deadline& d);
// Signals the child's process group: by the forkserver, which knows whether
// there is one; by the pidfd when the forkserver was lost.
result<void> signal_group(child_state& child, int number, const deadline& d);

// See client::open_session().
result<unique_fd> open_session(connection& c);

}  // namespace cleanfork::detail
