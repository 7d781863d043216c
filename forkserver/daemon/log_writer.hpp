// The process that appends what it reads from a pipe to a file, and starts a new file when that is
// as large as it may be. The forkserver's program in another role: it never comes back to be one.
#pragma once

#include <optional>

namespace cleanfork::daemon {

// Descriptors of such a process.
inline constexpr int k_log_pipe = 0;       // read to its end
inline constexpr int k_log_directory = 3;  // of the file
inline constexpr const char* k_log_role = "--write-log";

// `program --write-log NAME SIZE COUNT` reads the pipe to its end, and gives the exit code then.
// Nothing when the arguments are others.
std::optional<int> write_log_if_asked(int argc, char** argv);

}  // namespace cleanfork::daemon
