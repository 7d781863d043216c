// How much a session, and a user in all sessions, may have.
#pragma once

#include <cstddef>

#include "ipc/wire/defaults.hpp"
#include "ipc/wire/limits.hpp"

namespace cleanfork::daemon {

struct quotas {
    std::size_t sessions_per_uid = ipc::k_default_sessions_per_uid;
    std::size_t children_per_session = ipc::k_default_children_per_session;
    std::size_t queued_per_session = ipc::k_default_queued_per_session;
    std::size_t queued_bytes_per_session = ipc::k_default_queued_bytes_per_session;
    std::size_t queued_descriptors_per_session = ipc::k_default_queued_descriptors_per_session;
    std::size_t unclaimed_statuses = ipc::k_default_unclaimed_statuses;
    // Of all sessions of a user together.
    std::size_t children_per_user = ipc::k_default_children_per_user;
    std::size_t queued_per_user = ipc::k_default_queued_per_user;
    std::size_t queued_descriptors_per_user = ipc::k_default_queued_descriptors_per_user;
    std::size_t memory_per_user = ipc::k_default_memory_per_user;
    // Events that are kept while nobody follows them.
    std::size_t kept_events = ipc::k_default_kept_events;
    // For how long a leased child may wait for a call.
    std::size_t lease_idle_ms = ipc::k_default_lease_idle.count();
};

}  // namespace cleanfork::daemon
