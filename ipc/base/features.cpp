#include "ipc/base/features.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <sstream>

#include "ipc/base/proc.hpp"
#include "ipc/base/process_ref.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::ipc {

namespace {

constexpr std::array<feature_text, 7> k_texts{{
    {},
    {"pidfd_exit_info", "Linux 6.15", "exact exit statuses even when the forkserver was killed",
     "after the loss of the forkserver a status is unknown"},
    {"close_range_unshare", "Linux 5.9", "a spawn costs the same however many children there are",
     "each spawn copies the forkserver's descriptor table"},
    {"clone_into_cgroup", "Linux 5.7", "children are born in their cgroup",
     "a child moves to its cgroup before it runs the program"},
    {"cgroup_kill", "Linux 5.14, a cgroup in a mounted cgroup v2", "a cgroup is killed at once",
     "the processes of a cgroup are killed one by one"},
    {"pidfd_signal_group", "Linux 6.9", "a process group is signalled after its leader has ended",
     "a process group is signalled only while its leader lives"},
    {"execveat", "Linux 3.19", "programs can be given by descriptor",
     "a program given by descriptor fails with step exec, ENOSYS"},
}};

unique_fd own_pidfd() { return pidfd_open(static_cast<int>(::getpid())); }

// Not for ASan: it would look for the stack of the thread, and this is none.
[[gnu::no_sanitize_address]] int end_with_7(void*) { ::_exit(7); }

// A real child that ends with 7 and is reaped: does its pidfd still tell?
bool probe_exit_info() {
    constexpr std::size_t k_stack = 64 * 1024;
    void* stack =
        ::mmap(nullptr, k_stack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED) return false;
    int fd = -1;
    const int pid = ::clone(&end_with_7, static_cast<char*>(stack) + k_stack,
                            CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, nullptr, &fd);
    ::munmap(stack, k_stack);
    if (pid < 0) return false;
    const unique_fd pidfd(fd);
    siginfo_t info{};
    retry([&] { return ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED); });
    return pidfd_exit_status(pidfd.get()) == std::optional<int>(7 << 8);
}

bool probe_close_range_unshare() {
    // An empty range at the top: closes nothing, and unshares nothing in a
    // process whose table is its own.
    return ::syscall(SYS_close_range, ~0U, ~0U, 1U << 1) == 0;
}

bool probe_clone_into_cgroup() {
    clone_args args{};
    args.flags = CLONE_INTO_CGROUP;
    args.cgroup = static_cast<std::uint64_t>(1) << 30;  // no such descriptor
    args.exit_signal = SIGCHLD;
    const long r = ::syscall(SYS_clone3, &args, sizeof args);
    if (r == 0) ::_exit(0);  // cannot be: the descriptor is bad
    return r < 0 && errno == EBADF;
}

bool has_cgroup_kill(const std::string& cgroup) {
    return ::access((cgroup + "/cgroup.kill").c_str(), F_OK) == 0;
}

// The root cgroup has no cgroup.kill, every other one does: any below the mount
// answers, and where there is none, one made for the question.
bool probe_cgroup_kill_at(const std::string& mount) {
    {
        const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(mount.c_str()), &::closedir);
        while (const dirent* e = dir ? ::readdir(dir.get()) : nullptr)
            if (e->d_type == DT_DIR && e->d_name[0] != '.' &&
                has_cgroup_kill(mount + "/" + e->d_name))
                return true;
    }
    const std::string own = mount + "/cleanfork-probe." + std::to_string(::getpid());
    if (::mkdir(own.c_str(), 0700) != 0) return false;
    const bool has = has_cgroup_kill(own);
    ::rmdir(own.c_str());
    return has;
}

bool probe_cgroup_kill() {
    const std::vector<std::string> mounts = cgroup_mounts();
    return std::any_of(mounts.begin(), mounts.end(), &probe_cgroup_kill_at);
}

bool probe_signal_group() {
    const unique_fd self = own_pidfd();
    if (!self) return false;
    // This process may not lead a group: ESRCH then, but never EINVAL; EPERM is a filter's.
    const int e = pidfd_signal_group(self.get(), 0);
    return e == 0 || e == ESRCH;
}

bool probe_execveat() {
    ::syscall(SYS_execveat, -1, "", nullptr, nullptr, AT_EMPTY_PATH);
    return !is_missing(errno);
}

std::vector<std::string> disabled_names() {
    std::vector<std::string> names;
    const char* value = std::getenv("CLEANFORK_DISABLE_FEATURES");
    std::istringstream list(value != nullptr ? value : "");
    for (std::string name; std::getline(list, name, ',');)
        if (!name.empty()) names.push_back(name);
    return names;
}

}  // namespace

const feature_text& describe(feature f) noexcept { return k_texts.at(static_cast<std::size_t>(f)); }

std::vector<std::string> feature_set::names() const {
    std::vector<std::string> names;
    for (const feature f : k_all_features)
        if (has(f)) names.emplace_back(describe(f).name);
    return names;
}

feature_set probe_features(std::vector<std::string>* unknown) {
    feature_set set;
    set.set(feature::pidfd_exit_info, probe_exit_info());
    set.set(feature::close_range_unshare, probe_close_range_unshare());
    set.set(feature::clone_into_cgroup, probe_clone_into_cgroup());
    set.set(feature::cgroup_kill, probe_cgroup_kill());
    set.set(feature::pidfd_signal_group, probe_signal_group());
    set.set(feature::execveat, probe_execveat());
    for (const std::string& name : disabled_names()) {
        bool known = false;
        for (const feature f : k_all_features)
            if (describe(f).name == name) {
                set.set(f, false);
                known = true;
            }
        if (!known && unknown != nullptr) unknown->push_back(name);
    }
    return set;
}

bool disabled_by_environment(feature f) {
    for (const std::string& name : disabled_names())
        if (name == describe(f).name) return true;
    return false;
}

}  // namespace cleanfork::ipc
