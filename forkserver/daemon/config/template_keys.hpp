// The keys of a template's table in the file of cleanforkd, for the reader and the manual.
#pragma once

#include <span>

#include "ipc/base/template_words.hpp"

namespace cleanfork::daemon {

// In the order in which they are told of. Those that `cleanfork template add` has as options too
// have its words.
std::span<const ipc::option_words> template_keys();

}  // namespace cleanfork::daemon
