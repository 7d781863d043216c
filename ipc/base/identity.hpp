// Who a thread is to the kernel: what it may do, where it is, and how it is scheduled and limited.
//
// All of this a child of fork and exec has of the thread that makes it, and a child of a
// forkserver of that: so the two are compared before each start.
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cleanfork::ipc {

// ---- rights ----------------------------------------------------------------

struct id_triple {
    std::uint32_t real = 0;
    std::uint32_t effective = 0;
    std::uint32_t saved = 0;
    friend bool operator==(const id_triple&, const id_triple&) = default;
};

// Bit n: capability n of linux/capability.h.
struct capability_sets {
    std::uint64_t effective = 0;
    std::uint64_t permitted = 0;
    std::uint64_t inheritable = 0;
    std::uint64_t bounding = 0;
    std::uint64_t ambient = 0;
    friend bool operator==(const capability_sets&, const capability_sets&) = default;
};

// credentials(7), capabilities(7). A child can be given these, by a parent that may.
struct rights {
    id_triple user;
    id_triple group;
    std::vector<gid_t> groups;  // in the kernel's order, which is by number
    capability_sets capabilities;
    std::uint32_t securebits = 0;  // without SECBIT_KEEP_CAPS, which no exec leaves
    bool no_new_privs = false;
    friend bool operator==(const rights&, const rights&) = default;
};

// "net_bind_service"; a number for one that this version has no name for.
std::string capability_name(unsigned capability);
// The number of "net_bind_service" or "cap_net_bind_service"; nullopt: there is none.
std::optional<unsigned> capability_of(std::string_view name);
// How many the running kernel knows.
unsigned capability_count();

// ---- where it is -----------------------------------------------------------

// In the order of place::namespaces. That of time gives no right, and hides nothing: not compared.
inline constexpr std::array<std::string_view, 7> k_namespaces{
    "user", "mnt", "net", "pid_for_children", "ipc", "uts", "cgroup"};

// No child can be given these by a process that is elsewhere.
struct place {
    // Of the root directory. Every mount has a number of its own, so in another mount namespace
    // that is another.
    std::uint64_t root_device = 0;
    std::uint64_t root_inode = 0;
    std::uint64_t root_mount = 0;
    std::array<std::uint64_t, k_namespaces.size()> namespaces{};  // 0: /proc does not tell
    int seccomp_mode = 0;
    int seccomp_filters = 0;  // 0 as well when the kernel does not count them (before 5.9)
    friend bool operator==(const place&, const place&) = default;
};

// ---- scheduling and limits -------------------------------------------------

struct conduct {
    int nice = 0;
    int policy = 0;  // SCHED_*
    int priority = 0;
    std::optional<int> oom_score_adj;  // nullopt: /proc does not tell
    std::string cpus;                  // the mask as sched_getaffinity(2) gives it
    std::array<rlimit, RLIM_NLIMITS> limits{};
};

struct identity {
    ipc::rights rights;
    ipc::place place;
    ipc::conduct conduct;
    // What could not be looked at, for want of memory or a descriptor: then nobody can say that
    // two are the same, or that they differ. 0: all that there is was seen.
    int error_number = 0;
    const char* unseen = "";
};

// Of the calling thread, as a child that it makes would have it.
//
// What a thread cannot have changed since the last time it asked is not looked at again: the
// bounding set without CAP_SETPCAP, the namespaces in an unchanged user namespace without
// CAP_SYS_ADMIN, the filters of seccomp without that and no_new_privs. No thread ever gains a
// capability that is not in its permitted set, but by exec or in another user namespace.
const identity& own_identity();

}  // namespace cleanfork::ipc
