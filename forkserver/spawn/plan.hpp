// A spawn request made ready: validated, allocated, and then only read.
//
// Everything that can fail for want of memory or sense fails here, before a
// process exists. The child between clone and exec sees nothing but `plan`.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/types.h>

#include <cleanfork/failure.hpp>
#include <cleanfork/unique_fd.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "ipc/base/identity.hpp"

namespace cleanfork::spawn {

// NAME=VALUE strings as execve(2) wants them. Not copied: `pointers` point into `strings`.
struct environment_block {
    std::vector<std::string> strings;
    std::vector<char*> pointers;  // null-terminated

    environment_block() { seal(); }
    explicit environment_block(std::vector<std::string> s) : strings(std::move(s)) { seal(); }
    environment_block(const environment_block&) = delete;
    environment_block& operator=(const environment_block&) = delete;
    void seal();
};

// What the children of a session start from; shared by its queued spawns.
struct session_base {
    environment_block environment;
    unique_fd cwd;
    bool cwd_is_local = false;  // to enter it waits for nobody
    std::string trace_parent;   // of its environment: see trace_parent.hpp
};

// The descriptors of a packet: the items of a batch share them.
using shared_descriptors = std::shared_ptr<const std::vector<unique_fd>>;

struct descriptor_move {
    int source;
    int target;
    bool collides;  // the source's number is somebody's target: move it away first
};

struct resource_limit {
    int resource;
    rlimit value;
};

// How the child is scheduled and limited; what is not set stays as it is.
struct conduct_plan {
    bool set_nice = false;
    int nice = 0;
    bool set_oom_score_adj = false;
    int oom_score_adj = 0;
    bool set_scheduler = false;
    int scheduler_policy = 0;
    int scheduler_priority = 0;
    const cpu_set_t* cpus = nullptr;
    std::size_t cpus_size = 0;
    const resource_limit* limits = nullptr;
    std::size_t limit_count = 0;
};

// What the child may do; what is not set stays as it is. Sets of capabilities have bit n for
// capability n.
struct credential_plan {
    bool set_groups = false;
    const gid_t* groups = nullptr;
    std::size_t group_count = 0;
    bool set_gid = false;
    ipc::id_triple gid;
    bool set_uid = false;
    ipc::id_triple uid;
    bool set_bounding = false;
    std::uint64_t bounding = 0;
    bool set_inheritable = false;
    std::uint64_t inheritable = 0;
    bool set_ambient = false;
    std::uint64_t ambient = 0;
    bool set_permitted = false;  // with `effective`: at most these
    std::uint64_t permitted = 0;
    std::uint64_t effective = 0;
    bool set_securebits = false;
    unsigned securebits = 0;
    bool no_new_privs = false;
};

// Read by the child. Pointers reach into the `prepared` that owns this.
//
// When the caller is something else than the forkserver, the child becomes that first: it is
// scheduled and limited as the caller with the rights of the forkserver, then it takes on the
// caller's credentials. All that was asked for comes after that, and so with the caller's rights.
struct plan : conduct_plan, credential_plan {
    conduct_plan caller_conduct;
    bool becomes_caller = false;
    credential_plan caller;

    // Program: by descriptor when program_fd >= 0, else the first of `candidates` that runs.
    const char* const* candidates = nullptr;  // null-terminated
    int program_fd = -1;
    char* const* argv = nullptr;
    char* const* envp = nullptr;
    char* listen_pid = nullptr;  // room for the child's pid in the environment; null: none

    descriptor_move* moves = nullptr;
    std::size_t move_count = 0;
    int highest_target = 2;
    int close_from = 3;  // no descriptor the plan needs is at or above this number

    int cwd_fd = -1;                 // first this
    bool cwd_is_callers = false;     // it is where the caller stands himself
    const char* cwd_path = nullptr;  // then this, relative to it
    // `cwd_fd` can be entered at once, while the table is shared, and with the same result.
    bool cwd_at_once = false;
    int cwd_error = 0;  // of that, to be told in the step chdir

    bool new_session = false;
    bool set_process_group = true;
    pid_t process_group = 0;  // 0: own
    int controlling_terminal = -1;

    int cgroup_fd = -1;
    bool join_cgroup = false;  // by cgroup.procs, where clone cannot, or must not

    bool set_umask = false;
    mode_t umask = 022;
    int parent_death_signal = 0;
    pid_t parent = 0;                   // for the check after PR_SET_PDEATHSIG
    std::uint64_t ignored_signals = 0;  // bit n - 1: signal n
};
static_assert(std::is_trivially_destructible_v<plan>);

// The paths of a plan as they were given; empty: by descriptor.
struct plan_names {
    std::string_view program{}, cgroup{};
};
// What a failing step was about: a path, a descriptor, a limit.
std::string object_of(const plan& p, step s, int index, const plan_names& names);

// Each descriptor that the plan refers to from `first` on, always in the same order.
template <class F>
void each_source(plan& p, int first, F f) {
    for (std::size_t i = 0; i < p.move_count; ++i)
        if (p.moves[i].source >= first) f(p.moves[i].source);
    for (int* fd : {p.cwd_at_once ? nullptr : &p.cwd_fd, &p.program_fd,
                    p.join_cgroup ? &p.cgroup_fd : nullptr})
        if (fd != nullptr && *fd >= first) f(*fd);
}

// What the parent of the new process is and has, for planning: the forkserver or a template.
struct parent_facts {
    int null_fd = -1;           // /dev/null, read and write
    rlimit descriptor_limit{};  // RLIMIT_NOFILE as children are to have it
    bool restore_descriptor_limit = false;
    bool privileged = false;         // effective uid 0
    bool clone_into_cgroup = false;  // features
    bool execveat = true;
    pid_t pid = 0;
};

// Owns all that a plan points to, the received descriptors included.
class prepared {
public:
    prepared() = default;
    prepared(const prepared&) = delete;
    prepared& operator=(const prepared&) = delete;

    spawn::plan plan;

    // The object a failing step was about: a path, a descriptor, a limit.
    [[nodiscard]] std::string object_of(step s, int index) const;
    // A copy of the cgroup's descriptor, for the child's lifetime; empty when there is none.
    [[nodiscard]] unique_fd dup_cgroup() const;
    // Of a call: the descriptor of its payload, -1 when that is inline; borrowed.
    [[nodiscard]] int payload_fd() const noexcept { return payload_fd_; }
    // Of a call: where its answer goes, -1 when nobody wants one; borrowed.
    [[nodiscard]] int result_fd() const noexcept { return result_fd_; }
    // Of a call: the pipe that is told when its entry has returned, -1: none; borrowed.
    [[nodiscard]] int answer_fd() const noexcept { return answer_fd_; }
    [[nodiscard]] const v1::SpawnRequest& request() const noexcept { return *request_; }
    // The plan is good for nothing after it.
    [[nodiscard]] std::unique_ptr<v1::SpawnRequest> take_request() noexcept {
        return std::move(request_);
    }

private:
    friend class planner;
    // The strings of the plan live in the request.
    std::unique_ptr<v1::SpawnRequest> request_;
    std::shared_ptr<const session_base> base_;
    shared_descriptors descriptors_;
    unique_fd cgroup_;
    int payload_fd_ = -1;
    int result_fd_ = -1;
    int answer_fd_ = -1;

    std::string name_;  // the program as asked for
    std::vector<std::string> candidate_strings_;
    std::vector<const char*> candidates_;
    std::vector<char*> argv_;
    std::vector<std::string> env_strings_;
    std::vector<char*> env_;
    std::vector<descriptor_move> moves_;
    std::vector<resource_limit> limits_;
    std::vector<cpu_set_t> cpus_;
    std::vector<gid_t> groups_;
    // Of the caller.
    std::vector<resource_limit> caller_limits_;
    std::vector<cpu_set_t> caller_cpus_;
    std::vector<gid_t> caller_groups_;
};

// Validates `request` against the descriptors that came with it (all of the
// packet's, with their stated purposes) and makes it ready. step::request names
// what is wrong with it; step::cgroup and step::prepare what the system refused.
result<std::unique_ptr<prepared>> prepare(std::unique_ptr<v1::SpawnRequest> request,
                                          const std::vector<int>& purposes,
                                          shared_descriptors descriptors,
                                          std::shared_ptr<const session_base> base,
                                          const parent_facts& self);

// What is to be run, for a person: argv, or template, entry and arguments, joined
// by spaces; at most 256 bytes.
std::string command_of(const v1::SpawnRequest& request);

// True when `s` can stand in an environment: NAME=VALUE with a name, no NUL.
bool is_assignment(const std::string& s) noexcept;

}  // namespace cleanfork::spawn
