// The step at which a request failed. Every error of cleanfork names one.
//
// The numbers travel on the wire and appear in logs: they are never reused.
// docs/errors.md has a paragraph for each: meaning, usual cause, remedy.
#pragma once

#include <cleanfork/export.hpp>
#include <cstdint>
#include <string_view>

namespace cleanfork {

enum class step : std::uint32_t {
    none = 0,

    // Before the forkserver looks at a request.
    launch = 1,    // start a private forkserver
    connect = 2,   // reach a running forkserver, or the connection was lost
    hello = 3,     // version, credentials
    protocol = 4,  // a malformed packet; the session ends

    // In the forkserver, before the process exists.
    request = 10,   // validation of the request
    quota = 11,     // RESOURCE_EXHAUSTED: a limit per uid or session
    queue = 12,     // the deadline passed, or it was cancelled, while queued
    prepare = 13,   // allocation or descriptors ran out while preparing
    shutdown = 14,  // the forkserver is ending and takes no new spawns
    identity = 15,  // the caller is something that the forkserver cannot make of its child

    // The process is created, then these run in the child in this order.
    clone = 20,
    cgroup = 21,
    close_descriptors = 22,
    descriptors = 23,
    session = 24,
    process_group = 25,
    controlling_terminal = 26,
    oom_score_adj = 27,
    nice = 28,
    scheduler = 29,
    affinity = 30,
    rlimit = 31,
    groups = 32,
    gid = 33,
    uid = 34,
    no_new_privs = 35,
    chdir = 36,
    parent_death_signal = 37,
    signal_mask = 38,
    exec = 39,
    capabilities = 40,  // after uid

    // Operations on children that exist.
    signal = 50,
    wait = 51,

    // Templates.
    template_start = 60,  // its process, or its initialization
    clean = 61,           // it is not clean: the object says what broke it
    fork = 62,            // the template could not fork, or ended before its child ran
    child_start = 63,     // the child ended, or did not take its request in time
    entry = 64,           // no entry of that name
    template_name = 65,   // no template of that name, or one that cannot be reloaded
    audit = 66,           // /proc did not tell
};

// The name as written above, "unknown" for a number this version lacks.
CLEANFORK_EXPORT std::string_view to_string(step s) noexcept;

// True for the steps that run in the child between clone and exec.
constexpr bool is_child_step(step s) noexcept {
    return (s >= step::cgroup && s <= step::exec) || s == step::capabilities;
}

}  // namespace cleanfork
