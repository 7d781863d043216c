// Requests for processes: a program, the entry of a template, or a batch of programs.
#pragma once

#include "client/src/requests/entry_call.hpp"
#include "client/src/requests/request.hpp"
#include "client/src/requests/translate.hpp"

namespace cleanfork::detail {

// An exec or a call.
struct spawn_request {
    using value = process;
    static constexpr cancellation cancelled = cancellation::answered;

    static result<spawn_request> fill(outgoing& m, const deadline& d, const spawn_options& options);
    static result<spawn_request> fill(outgoing& m, const deadline& d, const entry_call& call);
    result<process> convert(connection& c, reply&& r);
    // A spawn nobody waits for any more leaves no process behind.
    static void discard(result<process>& p) noexcept;
    static failure expired();

    parent_ends ends{};
};

struct batch_request {
    using value = std::vector<result<process>>;
    static constexpr cancellation cancelled = cancellation::answered;

    static result<batch_request> fill(outgoing& m, const deadline& d,
                                      const std::vector<spawn_options>& items);
    result<value> convert(connection& c, reply&& r);
    static void discard(result<value>& all) noexcept;
    static failure expired();

    // Of each item; or why it was left out of the packet.
    std::vector<result<parent_ends>> ends{};
};

}  // namespace cleanfork::detail
