// Lines of this command's own.
#pragma once

#include <string>

namespace cleanfork::cli {

// Has standard output and error wait for room where a child, which shares them, has set
// O_NONBLOCK: else what this command says would be lost. Once, before anything is written.
void wait_for_room();

// True when what was written to standard output has not all arrived: then why is said, but to a
// reader that has gone away.
bool output_is_lost();

// "cleanfork: LINE" on standard error.
void say(const std::string& line);
// A line of output, flushed, so that it is out before a child writes.
void print(const std::string& line);

}  // namespace cleanfork::cli
