#include "forkserver/daemon/children/tree_walk.hpp"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "ipc/base/proc.hpp"
#include "ipc/base/process_ref.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

namespace {

// Processes that fork are stopped sooner than they can fork: a few passes. The bound is for
// those that cannot be stopped, in the middle of what the kernel does not interrupt.
constexpr int k_passes = 32;
// A pass may miss a process that forks and ends in turns.
constexpr int k_quiet_passes = 3;
constexpr rlim_t k_most_mark = rlim_t{1} << 62;
constexpr rlim_t k_least_room = rlim_t{1} << 16;

using process_name = std::pair<pid_t, std::uint64_t>;

struct seen_process {
    pid_t pid = 0;
    pid_t parent = 0;
    std::uint64_t started = 0;  // in the kernel's ticks: with the pid it names a process for good
    bool settled = false;       // stopped, or in the kernel: as a rule it does not fork

    [[nodiscard]] process_name name() const { return {pid, started}; }
};

// False when it is not there, or dead: a zombie whose threads have all ended.
bool look_at(int proc, pid_t pid, seen_process& out) {
    const auto text = ipc::read_file(proc, std::to_string(pid) + "/stat");
    // "PID (name, with anything in it) STATE PARENT ..."
    const std::size_t end = text ? text->rfind(')') : std::string::npos;
    if (end == std::string::npos) return false;
    std::istringstream fields(text->substr(end + 1));
    char state = 0;
    long long skipped = 0, threads = 0;
    fields >> state >> out.parent;
    for (int i = 5; i < 20; ++i) fields >> skipped;
    fields >> threads >> skipped >> out.started;
    if (!fields || ((state == 'Z' || state == 'X') && threads <= 1)) return false;
    out.pid = pid;
    out.settled = state == 'T' || state == 't' || state == 'D';
    return true;
}

bool has_mark(int proc, pid_t pid, std::uint64_t mark) {
    rlimit limit{};
    if (::prlimit(pid, RLIMIT_LOCKS, nullptr, &limit) == 0) return limit.rlim_max == mark;
    if (errno != EPERM) return false;
    // Another user's, like that of a program that is set-user-ID: this file is for everybody.
    const auto text = ipc::read_file(proc, std::to_string(pid) + "/limits");
    if (!text) return false;
    std::istringstream line{std::string(ipc::field(*text, "Max file locks"))};
    std::string soft, hard;
    line >> soft >> hard;
    return ipc::to_number<std::uint64_t>(hard) == mark;
}

// Calls each(process) for all that belong: for those that have the mark as soon as they are seen,
// since one that forks and ends in turns is there for a moment only.
template <class Each>
void for_members(const tree_root& root, Each each) {
    const unique_fd proc(::open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!proc) return;
    std::vector<pid_t> pids;
    ipc::each_number(proc.get(), [&](const char*, int pid) { pids.push_back(pid); });
    std::set<pid_t> inside;
    if (root.pid > 0) inside.insert(root.pid);
    std::vector<seen_process> others;
    // The newest first, as they were just read: of a chain that moves on they are what is there.
    for (auto pid = pids.rbegin(); pid != pids.rend(); ++pid) {
        seen_process p;
        if (*pid == ::getpid()) continue;
        const bool belongs = *pid == root.pid || has_mark(proc.get(), *pid, root.mark);
        if (!look_at(proc.get(), *pid, p)) continue;
        if (!belongs) {
            others.push_back(p);
            continue;
        }
        inside.insert(*pid);
        each(p);
    }
    // A parent's number may be the higher one.
    for (bool more = true; more;) {
        more = false;
        for (seen_process& p : others)
            if (p.pid != 0 && inside.contains(p.parent)) {
                inside.insert(p.pid);
                each(p);
                p.pid = 0;
                more = true;
            }
    }
}

// Through a pidfd of the process that was seen, and of no other that got its number since.
int signal_seen(const seen_process& p, int signal) {
    const unique_fd pidfd = ipc::pidfd_open(p.pid);
    if (!pidfd) return ESRCH;
    const unique_fd proc(::open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    seen_process now;
    if (!proc || !look_at(proc.get(), p.pid, now) || now.started != p.started) return ESRCH;
    return ipc::pidfd_signal(pidfd.get(), signal);
}

// What happened to all that were to get a signal: 0 when one did.
class outcome {
public:
    void add(int error) {
        if (error == 0) reached_ = true;
        if (error == EPERM) refused_ = true;
    }
    [[nodiscard]] int error() const { return reached_ ? 0 : refused_ ? EPERM : ESRCH; }

private:
    bool reached_ = false, refused_ = false;
};

// Until nobody is new, and all that were told to stop have.
void stop_all(const tree_root& root) {
    std::map<process_name, int> told;  // with what came of it
    for (int pass = 0; pass < k_passes; ++pass) {
        bool quiet = true;
        for_members(root, [&](const seen_process& p) {
            const auto [at, fresh] = told.try_emplace(p.name(), 0);
            if (fresh) at->second = signal_seen(p, SIGSTOP);
            if (at->second != EPERM) quiet = quiet && !fresh && p.settled;
        });
        if (quiet) return;
    }
}

int kill_all(const tree_root& root) {
    stop_all(root);
    outcome all;
    std::set<process_name> done;
    for (int pass = 0, quiet = 0; pass < k_passes && quiet < k_quiet_passes; ++pass) {
        bool fresh = false;
        for_members(root, [&](const seen_process& p) {
            if (!done.insert(p.name()).second) return;
            fresh = true;
            all.add(signal_seen(p, SIGKILL));
        });
        quiet = fresh ? 0 : quiet + 1;
    }
    return all.error();
}

}  // namespace

std::uint64_t new_tree_mark() {
    rlimit own{};
    if (::access("/proc/self/stat", R_OK) != 0) return 0;
    // Set to what it is: gVisor lets nobody set this one.
    if (::getrlimit(RLIMIT_LOCKS, &own) != 0 || ::setrlimit(RLIMIT_LOCKS, &own) != 0) return 0;
    // Of a forkserver in somebody's tree: below the mark of that, which cannot be raised.
    const rlim_t most = std::min(own.rlim_max, k_most_mark);
    if (most < k_least_room) return 0;
    std::uint64_t random = 0;
    while (::getrandom(&random, sizeof random, 0) != sizeof random) {
    }
    return most / 2 + random % (most / 2);
}

int signal_tree(const tree_root& root, int signal) {
    if (signal == SIGKILL) return kill_all(root);
    outcome all;
    for_members(root, [&](const seen_process& p) { all.add(signal_seen(p, signal)); });
    return all.error();
}

// One that has gone since it was seen may have left a child: then there is somebody.
bool anyone_in_tree(const tree_root& root) {
    bool anyone = false;
    for (int pass = 0; pass < k_quiet_passes && !anyone; ++pass)
        for_members(root,
                    [&](const seen_process& p) { anyone = anyone || signal_seen(p, 0) != EPERM; });
    return anyone;
}

}  // namespace cleanfork::daemon
