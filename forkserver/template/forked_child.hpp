// A child of a template: from the fork to its entry.
#pragma once

#include <sys/resource.h>

#include <cstdint>
#include <span>

#include "forkserver/template/host.hpp"
#include "forkserver/template/kept_files.hpp"
#include "forkserver/template/notes.hpp"

namespace cleanfork::templates {

// Made in the template, before the fork, so that the child finds it ready.
struct child_start {
    std::uint64_t sequence = 0;
    bool warm = false;
    int channel = -1;  // where the request comes from
    int control = -1;  // where it is told that the entry runs
    int null_fd = -1;
    const kept_files* files = nullptr;
    std::span<char> room;       // for the request, and a leased child's call: of the template's
                                // memory, never used there
    rlimit descriptor_limit{};  // RLIMIT_NOFILE as children are to have it
    rlim_t raised_limit = 0;    // the soft one that the template has
    int parent = 0;             // the template
    std::uint64_t changed_signals = 0;  // see order.hpp
};

// Takes the request from the channel, makes this process what it asks for with
// the same steps as an exec, reports, and runs the entry. A request that cannot
// be met is reported with its step, and the process ends; so it does when the
// channel closes without a request (a warm child that nobody needs any more).
[[noreturn]] void run_child(const child_start& start, host& h, notes& n);

}  // namespace cleanfork::templates
