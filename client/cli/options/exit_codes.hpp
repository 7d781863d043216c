// The exit codes of `cleanfork`, those of env(1) and timeout(1) where they have one.
#pragma once

namespace cleanfork::cli {

inline constexpr int k_exit_ok = 0;
inline constexpr int k_exit_error = 1;             // ps, kill, stats, shutdown, doctor failed
inline constexpr int k_exit_usage = 2;             // wrong options, except of spawn
inline constexpr int k_exit_timed_out = 124;       // spawn --timeout
inline constexpr int k_exit_failed = 125;          // spawn, wait: cleanfork itself failed
inline constexpr int k_exit_not_executable = 126;  // spawn: found, but it cannot be run
inline constexpr int k_exit_not_found = 127;       // spawn: no such program
inline constexpr int k_exit_signal_base = 128;     // spawn, wait: plus the signal

// Plus a signal, from a command to main(): it ends by that signal, as its child did.
inline constexpr int k_dies_of_signal = 256;

}  // namespace cleanfork::cli
