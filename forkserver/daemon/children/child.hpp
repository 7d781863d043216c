// What the forkserver knows of one child.
//
// All that would have to be told to another forkserver stands here. Elsewhere are only
// indexes that can be made again from it: by deadline and by orphaned group (lifetimes),
// by age of an unclaimed status (unclaimed), by the time a reply is held to (held_replies),
// and by the sequence in its template (child_slots).
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>

#include <chrono>
#include <cleanfork/unique_fd.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "forkserver/daemon/children/restart_schedule.hpp"
#include "forkserver/daemon/children/tree_cgroups.hpp"
#include "forkserver/daemon/daemon_ids.hpp"
#include "forkserver/daemon/sessions/charges.hpp"
#include "forkserver/daemon/sessions/lease_place.hpp"
#include "forkserver/spawn/plan.hpp"
#include "ipc/base/process_ref.hpp"
#include "ipc/wire/defaults.hpp"

namespace cleanfork::daemon {

using steady = std::chrono::steady_clock;

enum class signal_target { process, group, cgroup, tree };

// Of a child whose lifetime has the target tree: what its descendants are found by.
struct child_tree {
    v1::TreeMeans by = v1::TREE_MEANS_UNSPECIFIED;
    std::unique_ptr<tree_cgroup> cgroup;  // which child_origin::cgroup is then
    std::uint64_t mark = 0;               // see tree_walk.hpp
};

// What becomes of it when its session ends.
struct child_lifetime {
    bool keep = false;
    int signal = ipc::k_default_end_signal;
    std::chrono::milliseconds grace = ipc::k_default_grace;
    signal_target target = signal_target::process;
};

// What is known when its process begins.
struct child_origin {
    session_id session;  // none: kept beyond its session, or of no session
    child_lifetime lifetime;
    bool leads_group = false;
    unique_fd cgroup;
    child_tree tree;
    std::string command;
    std::string template_name;  // of a call
    std::string trace_parent;   // of its environment: see trace_parent.hpp
    generation_id forked_by;    // none: the forkserver forked it, and reaps it
    generation_id process_of;   // the generation whose process it is
    charge place;               // in its session's quota of children
    bool is_service = false;    // the forkserver's own: nobody is told of it
};

struct child_exit {
    bool known = true;    // false: another process reaped it and did not tell
    int wait_status = 0;  // as wait(2)
    v1::Usage usage;
    std::uint64_t wall_ns = 0;
    std::string error;       // the exception a call ended with
    bool is_unused = false;  // it was leased, and got no call: there is nothing to tell
};

// It waits for a call that its session sends straight to it.
struct child_lease {
    unique_fd channel{};  // the client's end; none: it was revoked, and the child ends
    lease_place place{};
    generation_id from{};
    steady::time_point since = steady::now();
};

// A request that waits for the exit: of a session that may have ended since.
struct exit_waiter {
    session_id session;
    request_id request;
    charge place;  // in its session's quota of waits
};

// Its session is over: its signal was sent.
struct child_ending {
    steady::time_point deadline;
    // SIGKILL was sent: the child's own exit is the end then, since what is left
    // of its group may be zombies of somebody who never reaps them.
    bool killed = false;
};

// Of a program that is started anew when it has ended.
struct child_restart {
    // Counts `kept` descriptors in `total` as long as they are kept.
    child_restart(const v1::SpawnRequest& r, std::shared_ptr<std::size_t> total, std::size_t kept);
    child_restart(const child_restart&) = delete;
    child_restart& operator=(const child_restart&) = delete;
    ~child_restart() { let_go(); }
    // There is no further start.
    void let_go() noexcept;

    // What it is started from.
    v1::SpawnRequest request;
    std::vector<int> purposes;
    spawn::shared_descriptors descriptors;
    std::shared_ptr<const spawn::session_base> base;

    restart_schedule schedule;
    std::uint64_t count = 0;
    std::optional<child_exit> last;  // of the process before
    // No process runs, and one will: then.
    std::optional<steady::time_point> due;
    bool is_stopped = false;  // somebody asked for its end

private:
    std::shared_ptr<std::size_t> total_;
    std::size_t kept_;
};

struct child {
    child_id id;
    child_origin origin;
    ipc::process_ref process;
    std::uint64_t started_ns = 0;  // CLOCK_MONOTONIC
    std::optional<child_exit> exit;
    std::optional<child_ending> ending;
    bool acknowledged = false;
    request_id held_request;     // the spawn reply that waits for the exit
    bool reply_pending = false;  // of its batch: the exit is told after it
    bool watched = false;        // through its pidfd
    std::vector<exit_waiter> waiters;
    std::unique_ptr<child_restart> restart;
    std::optional<child_lease> lease;

    [[nodiscard]] bool is_between_starts() const noexcept { return restart && restart->due; }
    // Its process was reaped: the number may be another's.
    [[nodiscard]] bool has_no_process() const noexcept { return exit || is_between_starts(); }
};

signal_target target_of(v1::SignalTarget t) noexcept;
void to_wire(const child& c, v1::Exit& out);
void to_wire(child_id id, const child_exit& e, v1::Exit& out);

}  // namespace cleanfork::daemon
