// Spawns that wait for their turn: in order within a session, in turn between sessions.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>

#include <chrono>
#include <cleanfork/failure.hpp>
#include <cleanfork/unique_fd.hpp>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "forkserver/daemon/children/child_table.hpp"
#include "forkserver/spawn/plan.hpp"

namespace cleanfork::daemon {

// The reply of a batch, filled as its items are done.
struct batch {
    v1::ServerMessage reply;
    std::vector<child_id> children;  // spawned so far
    std::size_t left = 0;
};

struct queued_spawn {
    session_id session;
    daemon::request_id request_id;
    std::unique_ptr<v1::SpawnRequest> request;
    std::vector<int> purposes;  // of all descriptors of the packet
    spawn::shared_descriptors descriptors;
    std::shared_ptr<const spawn::session_base> base;
    std::shared_ptr<daemon::batch> batch;  // null: a spawn of its own
    int item = 0;                          // its index in the batch
    std::size_t bytes = 0;
    std::chrono::microseconds hold{};  // of the reply
    std::uint64_t began_ns = 0;        // of a call: when its template was asked
    generation_id becomes;             // a call whose child becomes the process of this generation
};

// The child a request asks for, before its process exists.
child child_of(const queued_spawn& q);

// Its deadline passed before its turn came.
bool is_late(const queued_spawn& q);
failure late_failure();

struct queue_usage {
    std::size_t spawns = 0;
    std::size_t bytes = 0;
    std::size_t descriptors = 0;
};

class spawn_queue {
public:
    void push(queued_spawn s);
    // The next in turn; empty when there is none.
    std::optional<queued_spawn> pop();

    // Takes out the spawns of one request, or of a whole session.
    std::vector<queued_spawn> remove(session_id session, request_id request);
    void remove_session(session_id session) {
        sessions_.erase(session);
        std::erase(turns_, session);
    }

    [[nodiscard]] queue_usage usage(session_id session) const;
    [[nodiscard]] std::size_t size() const;
    [[nodiscard]] bool empty() const { return size() == 0; }

private:
    struct lane {
        std::deque<queued_spawn> spawns;
        queue_usage usage;
    };
    std::unordered_map<session_id, lane> sessions_;
    std::deque<session_id> turns_;  // sessions with spawns, each once; stale ones are skipped
};

}  // namespace cleanfork::daemon
