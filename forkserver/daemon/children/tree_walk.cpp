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
#include "ipc/base/process_stat.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::daemon {

namespace {

// Processes that fork are stopped sooner than they can fork: a few passes. The bound is for
// those that cannot be stopped, in the middle of what the kernel does not interrupt.
constexpr int k_passes = 64;
// So often nobody is to be found, where others fork meanwhile.
constexpr int k_quiet_passes = 12;
constexpr rlim_t k_most_mark = rlim_t{1} << 62;
constexpr rlim_t k_least_room = rlim_t{1} << 16;

using process_name = std::pair<pid_t, std::uint64_t>;

struct seen_process {
    pid_t pid = 0;
    ipc::process_stat stat;

    [[nodiscard]] process_name name() const { return {pid, stat.started}; }
    // Stopped, or in the kernel: as a rule it does not fork.
    [[nodiscard]] bool is_settled() const { return stat.is_stopped() || stat.state == 'D'; }
};

// False when it is not there, or dead.
bool look_at(pid_t pid, seen_process& out, int proc = AT_FDCWD) {
    const auto stat = ipc::stat_of(pid, proc);
    if (!stat || stat->is_dead()) return false;
    out = {pid, *stat};
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
        if (!look_at(*pid, p, proc.get())) continue;
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
            if (p.pid != 0 && inside.contains(p.stat.parent)) {
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
    seen_process now;
    if (!look_at(p.pid, now) || now.name() != p.name()) return ESRCH;
    return ipc::pidfd_signal(pidfd.get(), signal);
}

// The pid that was given last; -1 where /proc does not tell: proc_loadavg(5).
pid_t newest_pid() {
    const std::string text = ipc::read_line(AT_FDCWD, "/proc/loadavg");
    const std::size_t at = text.rfind(' ');
    return at == std::string::npos ? -1 : ipc::to_number<pid_t>(text.substr(at + 1), 10, -1);
}

// Whether looking has an end. A pass misses a process that forks and ends in turns when that runs
// ahead of it; a pass during which no pid was given missed nobody.
class quiet_passes {
public:
    quiet_passes() : newest_(newest_pid()) {}
    // After each pass: `quiet` when it found nothing to do.
    bool are_enough(bool quiet) {
        const pid_t before = std::exchange(newest_, newest_pid());
        count_ = quiet ? count_ + 1 : 0;
        return count_ >= k_quiet_passes || (quiet && newest_ > 0 && newest_ == before);
    }

private:
    pid_t newest_;
    int count_ = 0;
};

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
    quiet_passes passes;
    for (int pass = 0; pass < k_passes; ++pass) {
        bool quiet = true;
        for_members(root, [&](const seen_process& p) {
            const auto [at, fresh] = told.try_emplace(p.name(), 0);
            if (fresh) at->second = signal_seen(p, SIGSTOP);
            if (at->second != EPERM) quiet = quiet && !fresh && p.is_settled();
        });
        if (passes.are_enough(quiet)) return;
    }
}

int kill_all(const tree_root& root) {
    stop_all(root);
    outcome all;
    std::set<process_name> done;
    quiet_passes passes;
    for (int pass = 0; pass < k_passes; ++pass) {
        bool fresh = false;
        for_members(root, [&](const seen_process& p) {
            if (!done.insert(p.name()).second) return;
            fresh = true;
            all.add(signal_seen(p, SIGKILL));
        });
        if (passes.are_enough(!fresh)) break;
    }
    return all.error();
}

}  // namespace

std::uint64_t new_tree_mark() {
    rlimit own{};
    if (::access("/proc/self/stat", R_OK) != 0) return 0;
    if (::getrlimit(RLIMIT_LOCKS, &own) != 0) return 0;
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
    quiet_passes passes;
    do {
        for_members(root,
                    [&](const seen_process& p) { anyone = anyone || signal_seen(p, 0) != EPERM; });
    } while (!anyone && !passes.are_enough(true));
    return anyone;
}

}  // namespace cleanfork::daemon
