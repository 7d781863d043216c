// What a descriptor is, by its link in /proc/PID/fd and, for a path, its file type.
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>

#include "ipc/audit/parts.hpp"

namespace cleanfork::ipc::audit_parts {

namespace {

struct known_link {
    std::string_view prefix;     // without "anon_inode:" and "["
    std::optional<hazard> kind;  // none: harmless
};
constexpr std::array k_known_links = {
    known_link{"pipe:", {}},
    known_link{"socket:", hazard::socket},
    known_link{"eventpoll", hazard::epoll},
    known_link{"eventfd", hazard::eventfd},
    known_link{"timerfd", hazard::timerfd},
    known_link{"signalfd", hazard::signalfd},
    known_link{"inotify", hazard::inotify},
    known_link{"fanotify", hazard::inotify},
    known_link{"io_uring", hazard::io_uring},
    known_link{"userfaultfd", hazard::userfaultfd},
    known_link{"perf_event", hazard::perf_event},
    // Of drivers: virtual machines, pass-through, buffers and fences of GPUs, RDMA.
    known_link{"kvm", hazard::device},
    known_link{"vfio", hazard::device},
    known_link{"dmabuf", hazard::device},
    known_link{"sync", hazard::device},
    known_link{"infiniband", hazard::device},
    // They name something and have no state that two processes could disturb.
    known_link{"pidfd", {}},
    known_link{"bpf", {}},
    known_link{"landlock", {}},
    known_link{"fscontext", {}},
    known_link{"mnt:", {}},
    known_link{"net:", {}},
    known_link{"pid:", {}},
    known_link{"pid_for_children:", {}},
    known_link{"user:", {}},
    known_link{"uts:", {}},
    known_link{"ipc:", {}},
    known_link{"cgroup:", {}},
    known_link{"time:", {}},
    known_link{"time_for_children:", {}},
};

// Numbers of Documentation/admin-guide/devices.txt of the kernel.
bool harmless_device(unsigned major, unsigned minor) {
    switch (major) {
        case 1:  // null, zero, full, random, urandom; not mem, kmem, port or kmsg
            return minor == 3 || minor == 5 || (minor >= 7 && minor <= 9);
        case 4:    // virtual consoles, serial lines
        case 204:  // serial lines
        case 229:  // hypervisor consoles
            return true;
        case 5:  // tty, console; not ptmx, the far side of another program's terminal
            return minor <= 1;
        default: return major >= 136 && major <= 143;  // pts
    }
}

// By its link, for what has no type: objects of the kernel, and files of a file
// system that does not answer.
int look_at_link(int dir, const char* number, std::optional<hazard>& kind) {
    std::array<char, 64> buffer;  // enough to tell what it is
    const ssize_t size = ::readlinkat(dir, number, buffer.data(), buffer.size());
    // A path longer than a page has no link to read, and only files have paths.
    if (size < 0) return errno == ENAMETOOLONG ? 0 : errno;
    const std::string_view link(buffer.data(), static_cast<std::size_t>(size));
    if (!link.starts_with('/')) kind = of_kernel_object(link);
    if (link.starts_with("/dmabuf:")) kind = hazard::device;
    return 0;
}

// By the type of the file, not by its name: a device may lie anywhere. 0, or errno.
int look_at(int dir, const char* number, std::optional<hazard>& kind) {
    struct statx file {};
    // Without DONT_SYNC a file server that is away would stop us.
    constexpr int k_flags = AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC;
    if (::statx(dir, number, k_flags, STATX_TYPE, &file) != 0)
        return errno == ENOENT || errno == ESRCH || errno == EACCES
                   ? errno
                   : look_at_link(dir, number, kind);
    switch (file.stx_mode & S_IFMT) {
        case S_IFDIR:
        case S_IFIFO: return 0;
        case S_IFSOCK: kind = hazard::socket; return 0;
        case S_IFCHR:
        case S_IFBLK:
            if (is_hazardous_device(file.stx_mode, file.stx_rdev_major, file.stx_rdev_minor))
                kind = hazard::device;
            return 0;
        case S_IFREG:
            // On a disk. Objects of the kernel are on no device; that they have no
            // type either is a habit of the kernel, not a promise.
            if (file.stx_dev_major != 0) return 0;
            [[fallthrough]];
        default: return look_at_link(dir, number, kind);
    }
}

}  // namespace

std::optional<hazard> of_kernel_object(std::string_view link) {
    constexpr std::string_view k_anonymous = "anon_inode:";
    if (link.starts_with(k_anonymous)) link.remove_prefix(k_anonymous.size());
    if (link.starts_with('[')) link.remove_prefix(1);
    for (const known_link& known : k_known_links)
        if (link.starts_with(known.prefix)) return known.kind;
    return hazard::other_descriptor;
}

bool is_hazardous_device(unsigned mode, unsigned major, unsigned minor) {
    return S_ISBLK(mode) || (S_ISCHR(mode) && !harmless_device(major, minor));
}

int add_descriptors(audit_report& report, int dir, std::span<const int> allowed) {
    int error = 0;
    const int listing = each_number(dir, [&](const char* name, int number) {
        ++report.descriptors;
        if (error != 0 || std::find(allowed.begin(), allowed.end(), number) != allowed.end())
            return;
        std::optional<hazard> kind;
        const int failed = look_at(dir, name, kind);
        if (failed != 0 && failed != ENOENT) error = failed;  // ENOENT: closed meanwhile
        if (failed != 0 || !kind) return;
        std::string link = read_link(dir, name);
        if (link.empty()) return;  // closed since
        std::string what = std::string(name) + " " + link;
        report.findings.push_back({*kind, number, std::move(link), std::move(what)});
    });
    return error != 0 ? error : listing;
}

}  // namespace cleanfork::ipc::audit_parts
