// From what the caller asks for to the schema's request: options of a spawn, and the
// base that a session has of its client.
#pragma once

#include <cleanfork/spawn_options.hpp>

#include "client/src/connection/outgoing.hpp"

namespace cleanfork::detail {

// Fills `request` and `descriptors` from `options`, opens the files and pipes
// they name. What the forkserver can judge is left to it; the errors are
// step::request with the file or descriptor as object.
result<void> translate(const spawn_options& options, v1::SpawnRequest& request,
                       descriptor_list& descriptors, parent_ends& ends);
// The same without the program: what a call has as well.
result<void> translate_attributes(const spawn_options& options, v1::SpawnRequest& request,
                                  descriptor_list& descriptors, parent_ends& ends);

// The caller's environment and working directory.
result<void> fill_base(v1::SessionBase& base, descriptor_list& descriptors);

}  // namespace cleanfork::detail
