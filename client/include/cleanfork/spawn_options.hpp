// What a child is to be: a plain aggregate with designated initializers in mind.
//
//     cleanfork::spawn_options o{.program = "sort", .args = {"-u"}, .cwd = "/tmp"};
//
// Ownership: every `int` descriptor is borrowed until the spawn call returns
// (for asynchronous spawns: until the initiating function returns), then may be
// closed: the forkserver has its own copy. Paths, names and values must not
// contain NUL; that, duplicates and bounds are reported as step::request.
//
// What is not mentioned is fresh, never inherited: signal dispositions default,
// no signal blocked, umask 022, a process group of its own, no descriptor but
// 0, 1, 2 on /dev/null. What it may do, its limits and how it is scheduled are the
// caller's (see `identity`). Environment and working directory come from the
// session's base, which client takes when it connects (see client::update_base()).
#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace cleanfork {

// ---- standard input, output and error --------------------------------------

namespace stdio {
struct null {};     // /dev/null (the default)
struct inherit {};  // the caller's descriptor of the same number
struct pipe {};     // a new pipe; the caller's end is in the process handle
struct descriptor {
    int fd;
};             // borrowed
struct file {  // opened by the caller's side, O_CLOEXEC
    std::string path;
    bool append = false;  // for output: append instead of truncate
};
struct to_stdout {};  // for standard error only: where standard output goes
}  // namespace stdio

using stdio_option = std::variant<stdio::null, stdio::inherit, stdio::pipe, stdio::descriptor,
                                  stdio::file, stdio::to_stdout>;

// ---- attributes ------------------------------------------------------------

// The child's `target` is a copy of the caller's `source`, without CLOEXEC.
struct fd_mapping {
    int source;
    int target;
};

// Socket activation: passed as 3, 4, ... with LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES.
struct listen_fd {
    int source;
    std::string name;  // no ':' and no control characters (sd_listen_fds_with_names(3))
};

struct environment {
    bool clear = false;                      // start empty instead of from the session's base
    std::vector<std::string> unset;          // applied first
    std::map<std::string, std::string> set;  // then these

    // Exactly these variables.
    static environment exactly(std::map<std::string, std::string> variables) {
        return {.clear = true, .unset = {}, .set = std::move(variables)};
    }
};

struct process_group {
    enum class kind {
        own,      // leader of a new process group (the default)
        join,     // an existing group of the forkserver's session: `id`
        session,  // leader of a new session
    };
    kind how = kind::own;
    pid_t id = 0;
};

struct rlimit_option {
    int resource;  // RLIMIT_*
    rlim_t soft;
    rlim_t hard;
};

struct scheduling {
    int policy;        // SCHED_OTHER, SCHED_BATCH, SCHED_IDLE, SCHED_FIFO, SCHED_RR
    int priority = 0;  // 1 to 99 for FIFO and RR
};

enum class signal_target {
    process,
    group,   // the child's process group; needs process_group own or session
    cgroup,  // all of the child's cgroup; needs spawn_options::cgroup
};

// What becomes of the child when its session ends, for whatever reason.
struct lifetime {
    bool keep = false;  // it lives on; `cleanfork ps`, wait and kill still reach it
    int signal = SIGTERM;
    std::chrono::milliseconds grace{5000};  // then SIGKILL
    signal_target target = signal_target::process;

    static lifetime kept() { return {.keep = true}; }
};

// Whose rights, limits and scheduling the child has.
enum class identity {
    // Those of the thread that asks, at that moment, as a child of fork and exec has them: user and
    // groups, capabilities, no_new_privs, resource limits, niceness, policy, processors,
    // oom_score_adj. step::identity where the forkserver cannot give them, or is elsewhere: in
    // another root directory or namespace, or without a filter of seccomp that the caller has.
    of_caller,
    // Those of the forkserver, which may have more rights than the caller: a program that has
    // given up root may want children as root, of a forkserver that lends_rights.
    of_forkserver,
};

// A directory, executable or cgroup, by path or by borrowed descriptor.
using path_or_fd = std::variant<std::string, int>;

struct spawn_options {
    // With a '/': that path, relative to the child's working directory.
    // Without: searched in PATH of the child's environment.
    // As an int: a borrowed descriptor, run by execveat(2).
    path_or_fd program;
    std::vector<std::string> args{};     // without argv[0]
    std::optional<std::string> argv0{};  // default: `program` as given

    stdio_option in{};
    stdio_option out{};
    stdio_option err{};
    std::vector<fd_mapping> fds{};  // at most 64 descriptors in one spawn
    std::vector<listen_fd> listen_fds{};

    environment env{};
    std::optional<path_or_fd> cwd{};  // default: the session's base
    mode_t umask = 022;

    cleanfork::process_group group{};
    // A *target* number of the child that becomes its controlling terminal;
    // needs process_group::kind::session.
    std::optional<int> controlling_terminal{};

    std::vector<rlimit_option> rlimits{};
    std::optional<int> nice{};
    std::vector<unsigned> cpus{};  // CPU affinity; empty: as `identity` says
    std::optional<scheduling> sched{};
    std::optional<int> oom_score_adj{};

    std::optional<uid_t> uid{};
    std::optional<gid_t> gid{};
    // With `uid` and no `groups`, the supplementary groups are dropped.
    std::optional<std::vector<gid_t>> groups{};
    bool no_new_privs = false;
    // Sets of capabilities (bit n: CAP_* number n of linux/capability.h), as setpriv(1) has them;
    // nullopt: as `identity` says. What is ambient becomes inheritable as well, and the child of
    // another user keeps it. step::capabilities for one that the forkserver does not have.
    std::optional<std::uint64_t> ambient_caps{};
    std::optional<std::uint64_t> inheritable_caps{};
    std::optional<std::uint64_t> bounding_caps{};
    // All that is not said here.
    cleanfork::identity identity = identity::of_caller;

    // A signal the kernel sends the child when the *forkserver* dies (PR_SET_PDEATHSIG); 0: none.
    // The kernel clears it when a program with set-user-ID or capabilities is executed.
    // `lifetime` covers the death of the client.
    int parent_death_signal = 0;

    // To be ignored in the child, as nohup(1) does; all others have their default action.
    std::vector<int> ignored_signals{};

    // An existing cgroup v2 directory; the child is born in it.
    std::optional<path_or_fd> cgroup{};

    cleanfork::lifetime lifetime{};

    // A spawn still queued after this long fails with step::queue, ETIMEDOUT.
    std::optional<std::chrono::nanoseconds> queue_timeout{};
};

}  // namespace cleanfork
