// What the forkserver tells a template, and what a child and its template tell it for each call:
// packets of fixed layout on the control socket, so that a template never parses anything a client
// sent, and that neither of the two allocates or parses for a call. See call_block.hpp for the
// call itself. Its version is spawn::k_template_protocol.
#pragma once

#include <sys/resource.h>

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
    // The signals that the template catches or ignores, bit n - 1 for signal n, so that its child
    // need not ask for each: as they were found just before.
    std::uint64_t changed_signals;
};
static_assert(sizeof(order) == 24);

enum class report_kind : std::uint32_t {
    parked = 1,   // of the child, with its pidfd
    started = 2,  // of the child, with its pidfd unless it was parked
    ended = 3,    // of the template: child_end
    unused = 4,   // the same, of a leased child that got no call
};

// No message of protobuf, of which the other reports are, begins with 0.
struct child_event {
    std::uint32_t zero = 0;
    report_kind kind{};
    std::uint64_t sequence = 0;
    std::int32_t pid = 0;
    std::int32_t wait_status = 0;  // of an end: as wait(2) has it
};

// Then the text of the entry's exception, if there was one: the rest of the packet.
struct child_end {
    child_event event;
    rusage usage{};
};

// The control socket's number, in the environment of a process that is to be a template.
inline constexpr const char* k_control_variable = "CLEANFORK_TEMPLATE";
// The name of a derived template's control socket among its descriptors.
inline constexpr const char* k_control_name = "cleanfork.control";
inline constexpr int k_control_target = 3;

}  // namespace cleanfork::templates
