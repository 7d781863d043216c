// Prints what a process sees of itself, as one JSON object.
//
//     inspect [--to FD] [--hold] [ARG...]
//
// --to: where the report goes (default 1). --hold: then waits for the end of
// standard input. It is linked statically and without sanitizers, whose start-up
// code installs signal handlers and opens files.
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <unistd.h>

#include <climits>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

using nlohmann::json;

namespace {

constexpr int k_signals = 64;

std::string link_of(const std::string& path) {
    char text[PATH_MAX];
    const ssize_t n = ::readlink(path.c_str(), text, sizeof text);
    return n < 0 ? std::string() : std::string(text, static_cast<std::size_t>(n));
}

std::string contents(const char* path) {
    std::ifstream in(path);
    return {std::istreambuf_iterator<char>(in), {}};
}

json descriptors() {
    json all = json::object();
    DIR* dir = ::opendir("/proc/self/fd");
    if (dir == nullptr) return nullptr;
    while (const dirent* e = ::readdir(dir)) {
        if (e->d_name[0] == '.') continue;
        const int fd = std::atoi(e->d_name);
        struct stat st {};
        if (fd == ::dirfd(dir) || ::fstat(fd, &st) != 0) continue;
        all[e->d_name] = {{"link", link_of(std::string("/proc/self/fd/") + e->d_name)},
                          {"cloexec", (::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0},
                          {"device", st.st_dev},
                          {"inode", st.st_ino},
                          {"null", S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3)},
                          {"readable", (::fcntl(fd, F_GETFL) & O_ACCMODE) != O_WRONLY},
                          {"writable", (::fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDONLY}};
    }
    ::closedir(dir);
    return all;
}

json members(std::uint64_t set) {
    json numbers = json::array();
    for (int s = 1; s <= k_signals; ++s)
        if ((set >> (s - 1) & 1) != 0) numbers.push_back(s);
    return numbers;
}

// Raw calls: libc hides the two real-time signals it keeps to itself.
json signals() {
    struct kernel_action {
        std::uintptr_t handler;
        unsigned long flags;
        std::uintptr_t restorer;
        std::uint64_t mask;
    };
    std::uint64_t ignored = 0, caught = 0, blocked = 0, pending = 0;
    for (int s = 1; s <= k_signals; ++s) {
        kernel_action a{};
        ::syscall(SYS_rt_sigaction, s, nullptr, &a, sizeof a.mask);
        const std::uint64_t bit = std::uint64_t{1} << (s - 1);
        if (a.handler == 1) ignored |= bit;
        if (a.handler > 1) caught |= bit;
    }
    ::syscall(SYS_rt_sigprocmask, SIG_BLOCK, nullptr, &blocked, sizeof blocked);
    ::syscall(SYS_rt_sigpending, &pending, sizeof pending);
    return {{"ignored", members(ignored)},
            {"caught", members(caught)},
            {"blocked", members(blocked)},
            {"pending", members(pending)}};
}

json limits() {
    json all = json::array();
    for (int r = 0; r < RLIM_NLIMITS; ++r) {
        rlimit l{};
        ::getrlimit(static_cast<__rlimit_resource_t>(r), &l);
        all.push_back({l.rlim_cur, l.rlim_max});
    }
    return all;
}

json processors() {
    std::vector<cpu_set_t> sets(8);
    const std::size_t size = sets.size() * sizeof(cpu_set_t);
    json all = json::array();
    if (::sched_getaffinity(0, size, sets.data()) != 0) return all;
    for (std::size_t cpu = 0; cpu < size * 8; ++cpu)
        if (CPU_ISSET_S(cpu, size, sets.data())) all.push_back(cpu);
    return all;
}

json armed_timers() {
    json all = json::array();
    for (const int which : {ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF}) {
        itimerval v{};
        ::getitimer(static_cast<__itimer_which_t>(which), &v);
        if (v.it_value.tv_sec != 0 || v.it_value.tv_usec != 0)
            all.push_back("itimer " + std::to_string(which));
    }
    if (!contents("/proc/self/timers").empty()) all.push_back("POSIX timer");
    return all;
}

json credentials() {
    uid_t r = 0, e = 0, s = 0;
    ::getresuid(&r, &e, &s);
    json uids = {r, e, s};
    ::getresgid(&r, &e, &s);
    json gids = {r, e, s};
    std::vector<gid_t> groups(static_cast<std::size_t>(::getgroups(0, nullptr)));
    ::getgroups(static_cast<int>(groups.size()), groups.data());
    return {{"uids", uids}, {"gids", gids}, {"groups", groups}};
}

// The terminal is field 7 of /proc/self/stat; the command in field 2 may hold blanks.
long terminal() {
    const std::string text = contents("/proc/self/stat");
    std::istringstream fields(text.substr(text.rfind(')') + 1));
    std::string state;
    long ppid = 0, pgid = 0, sid = 0, tty = 0;
    fields >> state >> ppid >> pgid >> sid >> tty;
    return tty;
}

long status_number(const char* name) {
    const std::string text = contents("/proc/self/status");
    const std::size_t at = text.find(std::string("\n") + name + ":");
    return at == std::string::npos ? -1 : std::stol(text.substr(text.find(':', at) + 1));
}

json report(int argc, char** argv, const json& fds) {
    json r = credentials();
    r["fds"] = fds;
    r["argv"] = std::vector<std::string>(argv, argv + argc);
    r["environment"] = json::array();
    for (char** e = environ; *e != nullptr; ++e) r["environment"].push_back(*e);
    r["cwd"] = link_of("/proc/self/cwd");
    r["exe"] = link_of("/proc/self/exe");
    r["pid"] = ::getpid();
    r["ppid"] = ::getppid();
    r["pgid"] = ::getpgrp();
    r["sid"] = ::getsid(0);
    r["terminal"] = terminal();
    r["signals"] = signals();
    const mode_t mask = ::umask(0);
    r["umask"] = mask;
    r["rlimits"] = limits();
    r["nice"] = ::getpriority(PRIO_PROCESS, 0);
    sched_param parameter{};
    ::sched_getparam(0, &parameter);
    r["policy"] = ::sched_getscheduler(0);
    r["priority"] = parameter.sched_priority;
    r["cpus"] = processors();
    r["oom_score_adj"] = std::stol(contents("/proc/self/oom_score_adj"));
    r["no_new_privs"] = ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
    int death_signal = 0;
    ::prctl(PR_GET_PDEATHSIG, &death_signal);
    r["parent_death_signal"] = death_signal;
    r["dumpable"] = ::prctl(PR_GET_DUMPABLE, 0, 0, 0, 0);
    const std::string cgroups = contents("/proc/self/cgroup");
    const std::size_t v2 = cgroups.find("0::");
    r["cgroup"] = v2 == std::string::npos ? std::string()
                                          : cgroups.substr(v2 + 3, cgroups.find('\n', v2) - v2 - 3);
    r["timers"] = armed_timers();
    r["threads"] = status_number("Threads");
    return r;
}

}  // namespace

int main(int argc, char** argv) {
    const json fds = descriptors();  // before anything of ours is open
    int to = 1;
    bool hold = false;
    for (int i = 1; i < argc; ++i) {
        if (argv[i] == std::string("--to") && i + 1 < argc) to = std::atoi(argv[++i]);
        if (argv[i] == std::string("--hold")) hold = true;
    }
    const std::string text =
        report(argc, argv, fds).dump(-1, ' ', true, json::error_handler_t::replace) + "\n";
    for (std::size_t done = 0; done < text.size();) {
        const ssize_t n = ::write(to, text.data() + done, text.size() - done);
        if (n <= 0) return 1;
        done += static_cast<std::size_t>(n);
    }
    char byte;
    while (hold && ::read(0, &byte, 1) > 0) {
    }
    return 0;
}
