// What all parts of the server share.
#pragma once

#include <string>

#include "forkserver/daemon/closers.hpp"
#include "forkserver/daemon/config/quotas.hpp"
#include "forkserver/daemon/log.hpp"
#include "forkserver/daemon/loop/event_loop.hpp"
#include "forkserver/daemon/metrics.hpp"
#include "forkserver/daemon/sessions/session_table.hpp"
#include "forkserver/spawn/launcher.hpp"
#include "ipc/base/features.hpp"

namespace cleanfork::daemon {

// Quotas that leave something for everybody: a flood of connections, or of descriptors that wait
// with their spawns, does not use up `descriptor_limit`; what waits leaves most of `memory_limit`
// (0: there is none) to what is done with it.
quotas fitted(quotas q, std::size_t descriptor_limit, std::size_t memory_limit = 0);
// The least of RLIMIT_AS, RLIMIT_DATA and the cgroup's memory.max; 0: there is none.
std::size_t memory_limit();

// What a variable or an argument takes besides its bytes: an object.
inline constexpr std::size_t k_memory_of_a_word = 64;

struct server_config {
    daemon::quotas quotas;
    std::size_t descriptor_limit = 1024;  // RLIMIT_NOFILE
    ipc::feature_set features;
    std::string version;
    bool is_private = false;  // ends with its first session
};

// What `stats` tells, since the start.
struct counters {
    std::uint64_t sessions = 0;
    std::uint64_t spawned = 0;
    std::uint64_t failed = 0;
    std::uint64_t protocol_errors = 0;
    std::uint64_t quota_refusals = 0;
    std::uint64_t spawn_ns = 0;
    std::uint64_t spawn_ns_max = 0;
    std::uint64_t turn_ns_max = 0;  // of the loop

    void count_spawn(std::uint64_t ns) noexcept;
};

struct core {
    core(event_loop& loop, server_config c, spawn::launcher l, logger& logger);

    event_loop& io;
    server_config config;  // of which the quotas alone may change
    logger& log;
    spawn::launcher launcher;
    const std::shared_ptr<closers> closing;  // of what came from clients
    session_table sessions;
    counters total;
    metrics measured;
    // A forkserver has one user; and who was handed a session spends as that one.
    const std::shared_ptr<amounts> of_user = std::make_shared<amounts>();
    bool shutting_down = false;
    const std::string instance;  // new at each start
    const std::uint64_t started_ns;

    // A quota of one session was reached: counts it, and says so.
    failure over_quota(const char* what, std::size_t most, const char* option);
    // The same for one of all sessions together.
    failure over_quota_of_user(const char* what, std::size_t most, const char* option);
    // Why nothing that takes `more` can be begun now; step::none: it can.
    failure refusal(const amounts& more);
    // The failure of what is asked for while the forkserver ends.
    static failure ending();
};

}  // namespace cleanfork::daemon
