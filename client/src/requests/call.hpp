// Calls of a template's entries, from options to the packet.
#pragma once

#include "client/src/requests/operations.hpp"

namespace cleanfork::detail {

// What is called with what; all borrowed.
struct call_request {
    std::string_view template_name, entry;
    const cleanfork::payload& payload;
    const call_options& options;
};

// Fills `request` and `descriptors`. The memfds of the payload and of the answer
// are made here: the answer's is in `ends`.
result<void> translate_call(const call_request& call, v1::SpawnRequest& request,
                            descriptor_list& descriptors, parent_ends& ends);

// Fills `m` with the call; what the caller keeps is in the conversion.
result<to_process> prepare_call(outgoing& m, const call_request& call, const deadline& d);

// The child has ended: makes its answer safe to map, where nobody else has it
// mapped for writing. An empty descriptor is left alone.
void seal_result(const unique_fd& memfd) noexcept;

}  // namespace cleanfork::detail
