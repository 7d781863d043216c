// Every number a peer controls has its bound here, and a test one past it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace cleanfork::ipc {

inline constexpr std::uint32_t k_protocol_version = 2;

// Packets. A body that does not fit travels in a sealed memfd.
inline constexpr std::size_t k_max_inline_body = 64 * 1024;
inline constexpr std::size_t k_max_body = 16 * 1024 * 1024;
// The kernel's own limit is 253 (SCM_MAX_FD); 64 keeps a hostile packet cheap to close.
inline constexpr std::size_t k_max_descriptors = 64;

inline constexpr std::size_t k_max_failure_text = 16 * 1024;  // object, and detail; cut above

// One spawn. The kernel has no number of words, but 6 MiB for all of them with nine bytes for
// the shortest: so no bare program is given as many.
inline constexpr std::size_t k_max_arguments = 1 << 20;
inline constexpr std::size_t k_max_environment = 1 << 20;
inline constexpr std::size_t k_max_string = 128 * 1024;  // MAX_ARG_STRLEN of the kernel
inline constexpr std::size_t k_max_path = 4096;          // PATH_MAX
inline constexpr int k_max_target = 65'535;              // highest descriptor number in a child
inline constexpr std::size_t k_max_groups = 65'536;      // NGROUPS_MAX
inline constexpr std::size_t k_max_cpus = 8192;          // CONFIG_NR_CPUS of distribution kernels
inline constexpr std::size_t k_max_batch = k_max_descriptors;  // one pidfd each in the reply
inline constexpr std::chrono::milliseconds k_max_grace{24 * 3600 * 1000};
inline constexpr std::chrono::milliseconds k_max_restart_time{24 * 3600 * 1000};
inline constexpr unsigned k_max_restart_burst = 10'000;
inline constexpr std::uint64_t k_least_log_size = 4096;  // of a file that is rotated
inline constexpr unsigned k_max_log_count = 1000;
inline constexpr std::chrono::microseconds k_max_reply_hold{10'000};

// One call: the forkserver adds the session's directory and, for a derived
// template, a socket and a pipe.
inline constexpr std::size_t k_max_call_descriptors = k_max_descriptors - 4;
inline constexpr std::size_t k_max_call_arguments = 65'536;
inline constexpr std::size_t k_max_inline_payload = 32 * 1024;  // above: in a memfd
inline constexpr std::size_t k_max_name = 255;                  // of a template, entry, descriptor
inline constexpr std::size_t k_max_templates = 1024;
inline constexpr std::size_t k_max_warm = 4096;

// Quotas (defaults; cleanforkd has an option for each).
inline constexpr std::size_t k_default_sessions_per_uid = 1024;
inline constexpr std::size_t k_default_children_per_session = 16'384;
inline constexpr std::size_t k_default_queued_per_session = 4096;
inline constexpr std::size_t k_default_queued_bytes_per_session = 64 * 1024 * 1024;
inline constexpr std::size_t k_default_queued_descriptors_per_session = 512;
inline constexpr std::size_t k_default_unclaimed_statuses = 16'384;
inline constexpr std::size_t k_default_children_per_user = 65'536;
inline constexpr std::size_t k_default_queued_per_user = 16'384;
inline constexpr std::size_t k_default_queued_descriptors_per_user = 2048;
inline constexpr std::size_t k_default_memory_per_user = 512 * 1024 * 1024;

// Statuses nobody collected yet, and replies a client does not read, hold the
// session's further requests back (they stay in the socket) beyond this.
inline constexpr std::size_t k_max_unsent_packets = 256;
inline constexpr std::size_t k_max_unsent_bytes = k_max_body;

}  // namespace cleanfork::ipc
