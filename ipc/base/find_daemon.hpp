// Where cleanforkd is.
#pragma once

#include <cleanfork/failure.hpp>
#include <string>

namespace cleanfork::ipc {

// In this order: `given` (alone, when not empty), $CLEANFORK_DAEMON (alone, when
// set), beside this program, beside the library and in ../bin from there, the
// installed place, PATH. The failure lists every place that was looked at.
result<std::string> find_daemon(const std::string& given);

}  // namespace cleanfork::ipc
