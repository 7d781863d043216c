// Output that goes to files of a bounded size, in a request.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>

#include <cleanfork/spawn_options.hpp>

#include "client/src/connection/outgoing.hpp"

namespace cleanfork::detail {

// `target` of the child goes to `file`: the same log as another stream, if that names the same
// file. The file is opened, and made if need be, to see that it can be.
result<void> add_log(const stdio::rotated_file& file, int target, v1::SpawnRequest& request,
                     descriptor_list& descriptors);

}  // namespace cleanfork::detail
