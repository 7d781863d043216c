#include "forkserver/daemon/closing_kinds.hpp"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "ipc/base/cgroups.hpp"
#include "ipc/base/process_ref.hpp"

namespace cleanfork::daemon {

namespace {

constexpr std::uint64_t k_freed_at_once = 16 * 1024 * 1024;
constexpr unsigned k_memory_devices = 1;    // of mem(4) and null(4)
constexpr unsigned k_statx_mount = 0x1000;  // STATX_MNT_ID, Linux 5.8

dev_t device_of(const unique_fd& fd) {
    struct stat about {};
    return fd && ::fstat(fd.get(), &about) == 0 ? about.st_dev : 0;
}

}  // namespace

closing_kinds::closing_kinds() noexcept {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) == 0) {
        const unique_fd in(ends[0]), out(ends[1]);
        pipes_ = device_of(in);
    }
    memory_files_ = device_of(unique_fd(::memfd_create("cleanfork", MFD_CLOEXEC)));
    pidfds_ = device_of(ipc::pidfd_open(::getpid()));
    // Before Linux 6.9 they are of one file system with inotify, io_uring and others.
    if (pidfds_ == device_of(unique_fd(::eventfd(0, EFD_CLOEXEC)))) pidfds_ = 0;
}

// AT_STATX_DONT_SYNC: what is known of it here, without asking a server.
bool closing_kinds::closes_at_once(int fd) {
    struct statx s {};
    if (::statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC,
                STATX_TYPE | STATX_NLINK | STATX_SIZE | k_statx_mount, &s) != 0)
        return false;
    const dev_t device = makedev(s.stx_dev_major, s.stx_dev_minor);
    if (S_ISFIFO(s.stx_mode) && device == pipes_) return true;
    if (device == pidfds_ && pidfds_ != 0) return true;
    if (S_ISCHR(s.stx_mode) && s.stx_rdev_major == k_memory_devices) return true;
    if (!S_ISREG(s.stx_mode) && !S_ISDIR(s.stx_mode)) return false;
    if (s.stx_nlink == 0 && s.stx_size > k_freed_at_once) return false;
    if (device == memory_files_) return true;
    if ((s.stx_mask & k_statx_mount) != 0 && mounts_.is_local(s.stx_mnt_id)) return true;
    // A cgroup need not be of a mount that is seen here.
    return S_ISDIR(s.stx_mode) && ipc::is_cgroup(fd);
}

}  // namespace cleanfork::daemon
