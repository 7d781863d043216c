// One template of the file, as the request that a client would send for it.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>

#include "forkserver/daemon/config/toml.hpp"

namespace cleanfork::daemon {

// What is wrong is added to `problems`.
v1::AddTemplateRequest read_template(const toml::key& name, const toml::node& node,
                                     problem_list& problems);

}  // namespace cleanfork::daemon
