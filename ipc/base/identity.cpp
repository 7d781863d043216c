#include "ipc/base/identity.hpp"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "ipc/base/proc.hpp"
#include "ipc/base/sys.hpp"

namespace cleanfork::ipc {

namespace {

constexpr std::size_t k_most_groups = 65'536;  // NGROUPS_MAX
constexpr std::size_t k_most_cpus = 8192;      // CONFIG_NR_CPUS of distribution kernels

constexpr std::array<std::string_view, 41> k_names{"chown",
                                                   "dac_override",
                                                   "dac_read_search",
                                                   "fowner",
                                                   "fsetid",
                                                   "kill",
                                                   "setgid",
                                                   "setuid",
                                                   "setpcap",
                                                   "linux_immutable",
                                                   "net_bind_service",
                                                   "net_broadcast",
                                                   "net_admin",
                                                   "net_raw",
                                                   "ipc_lock",
                                                   "ipc_owner",
                                                   "sys_module",
                                                   "sys_rawio",
                                                   "sys_chroot",
                                                   "sys_ptrace",
                                                   "sys_pacct",
                                                   "sys_admin",
                                                   "sys_boot",
                                                   "sys_nice",
                                                   "sys_resource",
                                                   "sys_time",
                                                   "sys_tty_config",
                                                   "mknod",
                                                   "lease",
                                                   "audit_write",
                                                   "audit_control",
                                                   "setfcap",
                                                   "mac_override",
                                                   "mac_admin",
                                                   "syslog",
                                                   "wake_alarm",
                                                   "block_suspend",
                                                   "audit_read",
                                                   "perfmon",
                                                   "bpf",
                                                   "checkpoint_restore"};

// After a call that failed. Of the other errnos some say that /proc does not tell (it is not
// mounted, or hidden), which is how it is here.
void note_unseen(identity& i, const char* what) noexcept {
    const int e = errno;
    if (e != ENOMEM && e != EMFILE && e != ENFILE && e != EIO && e != EINTR) return;
    i.error_number = e;
    i.unseen = what;
}

bool has(std::uint64_t set, unsigned capability) noexcept { return (set >> capability & 1) != 0; }

// What is in none of the other sets need not be asked for; each costs a system call.
std::uint64_t ambient_of(std::uint64_t possible) noexcept {
    std::uint64_t set = 0;
    for (unsigned c = 0; possible >> c != 0; ++c)
        if (has(possible, c) && ::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, c, 0, 0) == 1)
            set |= std::uint64_t{1} << c;
    return set;
}

std::uint64_t bounding_now() noexcept {
    std::uint64_t set = 0;
    for (unsigned c = 0; c < capability_count(); ++c)
        if (::prctl(PR_CAPBSET_READ, c) == 1) set |= std::uint64_t{1} << c;
    return set;
}

void read_capabilities(capability_sets& sets) noexcept {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[2]{};
    ::syscall(SYS_capget, &header, data);
    const auto whole = [](std::uint32_t low, std::uint32_t high) {
        return std::uint64_t{high} << 32 | low;
    };
    sets.effective = whole(data[0].effective, data[1].effective);
    sets.permitted = whole(data[0].permitted, data[1].permitted);
    sets.inheritable = whole(data[0].inheritable, data[1].inheritable);
    sets.ambient = ambient_of(sets.permitted & sets.inheritable);
}

void read_groups(std::vector<gid_t>& groups) {
    groups.resize(64);
    for (;;) {
        const int n = ::getgroups(static_cast<int>(groups.size()), groups.data());
        if (n >= 0) return groups.resize(static_cast<std::size_t>(n));
        if (errno != EINVAL || groups.size() >= k_most_groups) return groups.clear();
        groups.resize(k_most_groups);
    }
}

// "user:[4026531837]"; 0 when it is not told.
std::uint64_t namespace_of(const char* path, identity& i) noexcept {
    char link[64];
    const ssize_t n = ::readlink(path, link, sizeof link);
    if (n < 0) note_unseen(i, "namespaces");
    if (n <= 0) return 0;
    const std::string_view text(link, static_cast<std::size_t>(n));
    const std::size_t at = text.find('[');
    return at == text.npos ? 0 : to_number<std::uint64_t>(text.substr(at + 1));
}

// By paths and not through their directory, so that no descriptor is needed.
void read_namespaces(identity& of) {
    place& p = of.place;
    const std::size_t first = p.root_mount != 0 ? 2 : 1;  // the mount tells its namespace
    std::string path = "/proc/thread-self/ns/";
    const std::size_t name = path.size();
    p.namespaces[1] = 0;
    for (std::size_t i = first; i < k_namespaces.size(); ++i)
        p.namespaces[i] = namespace_of(path.replace(name, path.npos, k_namespaces[i]).c_str(), of);
}

void read_root(identity& of) noexcept {
    place& p = of.place;
    struct statx root {};
    constexpr unsigned k_mount_id = 0x1000;  // STATX_MNT_ID, since Linux 5.8
    if (::statx(AT_FDCWD, "/", AT_STATX_DONT_SYNC, STATX_INO | k_mount_id, &root) == 0) {
        p.root_device = ::makedev(root.stx_dev_major, root.stx_dev_minor);
        p.root_inode = root.stx_ino;
        p.root_mount = (root.stx_mask & k_mount_id) != 0 ? root.stx_mnt_id : 0;
        return;
    }
    struct stat plain {};  // where a filter of seccomp does not know statx
    if (!is_missing(errno) || ::stat("/", &plain) != 0) {
        of.error_number = errno;
        of.unseen = "root directory";
        return;
    }
    p.root_device = plain.st_dev;
    p.root_inode = plain.st_ino;
    p.root_mount = 0;
}

// Without a descriptor for it, as many as there were.
int filters_now(identity& of, bool is_known) {
    const auto status = read_file(AT_FDCWD, "/proc/thread-self/status");
    if (status) return to_number(field(*status, "Seccomp_filters:\t"));
    if (!is_known) note_unseen(of, "filters of seccomp");
    return of.place.seccomp_filters;
}

// sched_getattr(2), which libc does not have.
struct scheduling_attributes {
    std::uint32_t size, policy;
    std::uint64_t flags;
    std::int32_t nice;
    std::uint32_t priority;
    std::uint64_t runtime, deadline, period;
};

void read_scheduling(conduct& c) noexcept {
    constexpr std::uint64_t k_reset_on_fork = 1;
    scheduling_attributes now{};
    if (::syscall(SYS_sched_getattr, 0, &now, sizeof now, 0) != 0) {
        c.policy = ::sched_getscheduler(0) & ~SCHED_RESET_ON_FORK;
        c.nice = ::getpriority(PRIO_PROCESS, 0);
        return;
    }
    c.policy = static_cast<int>(now.policy);
    c.priority = static_cast<int>(now.priority);
    c.nice = now.nice;
    // What a child of the thread would have (sched_fork() of kernel/sched/core.c).
    const bool is_plain =
        c.policy == SCHED_OTHER || c.policy == SCHED_BATCH || c.policy == SCHED_IDLE;
    if ((now.flags & k_reset_on_fork) == 0 && c.policy <= SCHED_IDLE) return;
    if (!is_plain) {
        c.policy = SCHED_OTHER;
        c.priority = 0;
        c.nice = 0;
    }
    if (c.nice < 0) c.nice = 0;
}

// libc's is prlimit(2), which takes longer.
void read_limit(std::size_t resource, rlimit& limit) noexcept {
#if defined(SYS_getrlimit) && __WORDSIZE == 64
    ::syscall(SYS_getrlimit, resource, &limit);
#else
    ::getrlimit(static_cast<__rlimit_resource_t>(resource), &limit);
#endif
}

void read_conduct(identity& of) {
    conduct& c = of.conduct;
    read_scheduling(c);
    char mask[k_most_cpus / 8];
    const long n = ::syscall(SYS_sched_getaffinity, 0, sizeof mask, mask);
    c.cpus.assign(mask, n > 0 ? static_cast<std::size_t>(n) : 0);
    for (std::size_t i = 0; i < c.limits.size(); ++i) read_limit(i, c.limits[i]);
    c.oom_score_adj.reset();
    const int fd = ::open("/proc/self/oom_score_adj", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return note_unseen(of, "oom_score_adj");
    char text[16];
    const ssize_t size = retry([&] { return ::read(fd, text, sizeof text); });
    if (size < 0) note_unseen(of, "oom_score_adj");
    ::close(fd);
    if (size > 0)
        c.oom_score_adj = to_number(std::string_view(text, static_cast<std::size_t>(size)));
}

// What the thread had when it asked last.
struct known_identity {
    identity is;
    bool complete = false;
};

void refresh(known_identity& known) {
    rights& r = known.is.rights;
    place& p = known.is.place;
    known.is.error_number = 0;
    const std::uint64_t before = r.capabilities.permitted;
    const std::uint64_t user_before = p.namespaces[0];
    const bool nnp_before = r.no_new_privs;
    ::getresuid(&r.user.real, &r.user.effective, &r.user.saved);
    ::getresgid(&r.group.real, &r.group.effective, &r.group.saved);
    read_groups(r.groups);
    read_capabilities(r.capabilities);
    r.no_new_privs = ::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
    r.securebits =
        static_cast<std::uint32_t>(::prctl(PR_GET_SECUREBITS)) & ~(1U << SECURE_KEEP_CAPS);
    p.namespaces[0] = namespace_of("/proc/thread-self/ns/user", known.is);
    read_root(known.is);
    p.seccomp_mode = ::prctl(PR_GET_SECCOMP);

    const bool same = known.complete && p.namespaces[0] == user_before && user_before != 0;
    if (!same || has(before, CAP_SETPCAP)) r.capabilities.bounding = bounding_now();
    if (!same || has(before, CAP_SYS_ADMIN)) read_namespaces(known.is);
    if (p.seccomp_mode == 0)
        p.seccomp_filters = 0;
    else if (!same || nnp_before || r.no_new_privs || has(before, CAP_SYS_ADMIN) ||
             p.seccomp_filters == 0)
        p.seccomp_filters = filters_now(known.is, known.complete);
    read_conduct(known.is);
    known.complete = known.is.error_number == 0;
}

}  // namespace

std::string capability_name(unsigned capability) {
    return capability < k_names.size() ? std::string(k_names[capability])
                                       : std::to_string(capability);
}

std::optional<unsigned> capability_of(std::string_view name) {
    if (name.starts_with("cap_")) name.remove_prefix(4);
    for (unsigned c = 0; c < k_names.size(); ++c)
        if (k_names[c] == name) return c;
    return std::nullopt;
}

unsigned capability_count() {
    static const unsigned count = [] {
        unsigned n = 0;
        while (n < 64 && ::prctl(PR_CAPBSET_READ, n) >= 0) ++n;
        return n;
    }();
    return count;
}

const identity& own_identity() {
    thread_local known_identity known;
    refresh(known);
    return known.is;
}

}  // namespace cleanfork::ipc
