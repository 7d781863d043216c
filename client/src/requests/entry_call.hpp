// A call of a template's entry, from options to the schema's request.
#pragma once

#include <cleanfork/templates.hpp>

#include "client/src/connection/outgoing.hpp"

namespace cleanfork::detail {

// What is called with what; all borrowed.
struct entry_call {
    std::string_view template_name, entry;
    const cleanfork::payload& payload;
    const call_options& options;
};

// Fills `request` and `descriptors`. The memfds of the payload and of the answer
// are made here: the answer's is in `ends`.
result<void> translate_call(const entry_call& call, v1::SpawnRequest& request,
                            descriptor_list& descriptors, parent_ends& ends);

// The child has ended: makes its answer safe to map, where nobody else has it
// mapped for writing. An empty descriptor is left alone.
void seal_result(const unique_fd& memfd) noexcept;

}  // namespace cleanfork::detail
