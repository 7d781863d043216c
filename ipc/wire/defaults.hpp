// What holds when a request does not say otherwise: one place for daemon, client, command
// line and Python.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <csignal>

namespace cleanfork::ipc {

// The lifetime of a child whose session ends: this signal, and after the grace SIGKILL.
inline constexpr int k_default_end_signal = SIGTERM;
inline constexpr std::chrono::milliseconds k_default_grace{5000};

// Restarts, as of systemd: RestartSec=, StartLimitBurst=, StartLimitIntervalSec=.
inline constexpr std::chrono::milliseconds k_default_restart_delay{100};
inline constexpr std::chrono::milliseconds k_default_restart_max_delay{60'000};
inline constexpr unsigned k_default_restart_burst = 5;
inline constexpr std::chrono::milliseconds k_default_restart_interval{10'000};

inline constexpr mode_t k_default_umask = 022;

// A template's initialization, and how long a child of it may take to begin a call.
inline constexpr std::chrono::milliseconds k_default_start_timeout{60'000};
inline constexpr std::chrono::milliseconds k_default_call_timeout{10'000};

// A leased child that its session has not used for so long is taken back.
inline constexpr std::size_t k_default_kept_events = 512;
inline constexpr std::chrono::milliseconds k_default_lease_idle{30'000};

}  // namespace cleanfork::ipc
