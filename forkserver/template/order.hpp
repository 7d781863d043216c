// What the forkserver tells a template: one packet of this size on the control
// socket, so that a template never parses anything a client sent.
#pragma once

#include <cstdint>

namespace cleanfork::templates {

enum class order_kind : std::uint32_t {
    fork = 1,  // with one descriptor: the private channel of the new child
    kill = 2,  // SIGKILL to the child of that sequence, if it is still there
    // As fork, but it looks for threads in the midst of it; when some are left there is no
    // child. For a template that has told that it ends its threads.
    judged_fork = 3,
};

struct order {
    order_kind kind;
    std::uint32_t warm;  // the child tells that it waits for its request
    std::uint64_t sequence;
};
static_assert(sizeof(order) == 16);

// The control socket's number, in the environment of a process that is to be a template.
inline constexpr const char* k_control_variable = "CLEANFORK_TEMPLATE";
// The name of a derived template's control socket among its descriptors.
inline constexpr const char* k_control_name = "cleanfork.control";
inline constexpr int k_control_target = 3;

}  // namespace cleanfork::templates
