// The account: its rights, its limits, and the places it can use.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "client/cli/commands/doctor_checks.hpp"
#include "ipc/base/proc.hpp"

namespace cleanfork::cli {

namespace {

namespace fs = std::filesystem;

std::string show_limit(rlim_t value) {
    return value == RLIM_INFINITY ? "unlimited" : std::to_string(value);
}

diagnosis check_user() {
    diagnosis f{"user", verdict::ok, {}, {}};
    if (::geteuid() == 0)
        f.text = "root: --user, negative --nice, real-time --sched and raised limits work";
    else
        f.text = "uid " + std::to_string(::geteuid()) +
                 ": --user, negative --nice, real-time --sched and raised limits need root";
    return f;
}

diagnosis check_limit(const char* name, int resource, rlim_t enough, const char* meaning,
                      const char* remedy) {
    rlimit limit{};
    ::getrlimit(static_cast<__rlimit_resource>(resource), &limit);
    diagnosis f{
        name,
        verdict::ok,
        show_limit(limit.rlim_cur) + " of at most " + show_limit(limit.rlim_max) + " " + meaning,
        {}};
    if (limit.rlim_max < enough) {
        f.how = verdict::warning;
        f.remedy = remedy;
    }
    return f;
}

diagnosis check_socket_directory() {
    const fs::path directory = fs::path(default_socket_path()).parent_path();
    diagnosis f{"socket directory", verdict::ok, directory.string(), {}};
    struct stat about {};
    if (::stat(directory.c_str(), &about) == 0) {
        if (!S_ISDIR(about.st_mode) || about.st_uid != ::geteuid() || (about.st_mode & 077) != 0) {
            f.how = verdict::warning;
            f.text += " is not a directory that only this user can enter";
            f.remedy = "`chmod 700` it if it is yours, or set CLEANFORK_SOCKET to another place";
        }
        return f;
    }
    // `serve` creates the last part of the path; what is above must be there.
    if (::access(directory.parent_path().c_str(), W_OK) != 0) {
        f.how = verdict::missing;
        f.text += " cannot be created: no write access to " + directory.parent_path().string();
        f.remedy =
            "log in so that XDG_RUNTIME_DIR is set, or use --socket; a private forkserver "
            "needs none";
    } else {
        f.text += " (`cleanfork serve` creates it)";
    }
    return f;
}

diagnosis check_runtime_directory() {
    diagnosis f{"XDG_RUNTIME_DIR", verdict::ok, {}, {}};
    const char* directory = std::getenv("XDG_RUNTIME_DIR");
    if (directory == nullptr || *directory == '\0') {
        f.text = "not set: " + fs::path(default_socket_path()).parent_path().string() + " is used";
        return f;
    }
    f.text = directory;
    struct stat about {};
    if (::stat(directory, &about) != 0 || about.st_uid != ::geteuid()) {
        f.how = verdict::warning;
        f.text += " is not a directory of this user";
        f.remedy = "unset it, or run as its owner: after su or sudo it is still the old user's";
    }
    return f;
}

std::string own_cgroup() {
    const std::string groups = ipc::read_file(AT_FDCWD, "/proc/self/cgroup").value_or("");
    const std::string_view own = ipc::field(groups, "0::");
    return own.empty() ? "/" : std::string(own);
}

diagnosis check_cgroups() {
    diagnosis f{"cgroup v2", verdict::ok, {}, {}};
    const std::vector<std::string> mounts = ipc::cgroup_mounts();
    if (mounts.empty()) {
        f.how = verdict::missing;
        f.text = "not mounted: --cgroup cannot be used";
        f.remedy = "mount -t cgroup2 none /sys/fs/cgroup, or boot with a unified hierarchy";
        return f;
    }
    const std::string& mount = mounts.front();
    const std::string own = fs::path(mount + own_cgroup()).lexically_normal().string();
    f.text = own + " can hold cgroups for children";
    if (::access(own.c_str(), W_OK) != 0 || ::access((own + "/cgroup.procs").c_str(), W_OK) != 0) {
        f.how = verdict::warning;
        f.text = mount + " is mounted, but " + own + " is not delegated to this user";
        f.remedy = "run under `systemd-run --user --scope -p Delegate=yes`, or as root";
    }
    return f;
}

diagnosis check_pid_max() {
    diagnosis f{"pid_max", verdict::ok, {}, {}};
    const auto most = ipc::to_number<long>(ipc::read_line(AT_FDCWD, "/proc/sys/kernel/pid_max"));
    f.text = std::to_string(most) + " processes and threads in the whole system";
    if (most < 10'000) {
        f.how = verdict::warning;
        f.remedy = "sysctl kernel.pid_max=4194304";
    }
    return f;
}

}  // namespace

std::vector<diagnosis> check_account() {
    return {check_user(),
            check_limit("descriptors", RLIMIT_NOFILE, 4096,
                        "descriptors: a forkserver needs one for each child alive",
                        "raise the hard limit: `ulimit -Hn`, or LimitNOFILE= of the service"),
            check_limit("processes", RLIMIT_NPROC, 1024, "processes of this user",
                        "raise the hard limit: `ulimit -Hu`, or LimitNPROC= of the service"),
            check_socket_directory(),
            check_runtime_directory(),
            check_cgroups(),
            check_pid_max()};
}

}  // namespace cleanfork::cli
