// Lines of this command's own.
#pragma once

#include <string>

namespace cleanfork::cli {

// "cleanfork: LINE" on standard error.
void say(const std::string& line);
// A line of output, flushed, so that it is out before a child writes.
void print(const std::string& line);

}  // namespace cleanfork::cli
