// Spawns that wait for their turn: in order within a session, in turn between sessions.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>

#include <chrono>
#include <cleanfork/failure.hpp>
#include <cleanfork/unique_fd.hpp>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "forkserver/daemon/daemon_ids.hpp"
#include "forkserver/daemon/sessions/charges.hpp"
#include "forkserver/daemon/sessions/lease_place.hpp"
#include "forkserver/spawn/plan.hpp"

namespace cleanfork::daemon {

// The reply of a batch, filled as its items are done.
struct batch {
    v1::ServerMessage reply;
    std::vector<child_id> children;  // spawned so far
    std::size_t left = 0;
};

// Of a call whose child is to be leased: its place among the leases, and both ends of the channel
// through which its session sends the rest.
struct asked_lease {
    lease_place place{};
    unique_fd channel{};
    unique_fd end_of_child{};  // until it is sent
};

struct queued_spawn {
    session_id session;
    daemon::request_id request_id;
    std::unique_ptr<v1::SpawnRequest> request;
    std::vector<int> purposes;  // of all descriptors of the packet
    spawn::shared_descriptors descriptors;
    std::shared_ptr<const spawn::session_base> base;
    std::shared_ptr<daemon::batch> batch;     // null: a spawn of its own
    int item = 0;                             // its index in the batch
    charge place;                             // in its session's quotas
    std::chrono::microseconds hold{};         // of the reply
    std::uint64_t received_ns = 0;            // CLOCK_MONOTONIC of this process
    std::uint64_t began_ns = 0;               // of a call: when its template was asked
    std::optional<std::uint64_t> timeout_ns;  // since received_ns, once `request` is given away
    bool is_warm = false;                     // a call: a child that waited was asked
    generation_id becomes;             // a call whose child becomes the process of this generation
    std::optional<asked_lease> lease;  // once its template has one to give
    std::int64_t lease_of = -1;        // the user who alone, with root, may use one; -1: anybody

    [[nodiscard]] bool asks_for_lease() const { return request && request->call().lease(); }
};

// Its deadline passed before its turn came.
bool is_late(const queued_spawn& q);
failure late_failure();

class spawn_queue {
public:
    void push(queued_spawn s);
    // The next in turn; empty when there is none.
    std::optional<queued_spawn> pop();

    // Takes out the spawns of one request, or of a whole session.
    std::vector<queued_spawn> remove(session_id session, request_id request);
    void remove_session(session_id session);

    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] bool empty() const noexcept { return size_ == 0; }

private:
    using lanes = std::unordered_map<session_id, std::deque<queued_spawn>>;
    void drop_lane(lanes::iterator at);

    lanes lanes_;                  // none is empty
    std::list<session_id> turns_;  // the session of each lane, once
    std::size_t size_ = 0;
};

}  // namespace cleanfork::daemon
