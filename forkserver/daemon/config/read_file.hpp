// The file of cleanforkd (TOML), read and checked.
#pragma once

#include <boost/system/result.hpp>
#include <string>
#include <vector>

#include "forkserver/daemon/config/settings.hpp"

namespace cleanfork::daemon {

// What is wrong with a file, each as FILE:LINE:COLUMN: why.
struct file_problems {
    std::vector<std::string> lines;
};
[[noreturn]] void throw_exception_from_error(const file_problems& p, const boost::source_location&);

// All of `path`; every problem that it has. It is a regular file, and not larger than a megabyte:
// nothing that could keep the forkserver waiting.
boost::system::result<settings, file_problems> read_settings(const std::string& path);
// The same of a text, which messages name as `path`.
boost::system::result<settings, file_problems> parse_settings(const std::string& path,
                                                              std::string_view text);

}  // namespace cleanfork::daemon
