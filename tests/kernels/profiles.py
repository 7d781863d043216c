"""What a kernel, a container engine or a sandbox takes away, as rules of tests/helpers/deny.cpp.

A profile of a kernel takes away the calls and flags that it does not have, of those that this
project, CPython or glibc may try. What no filter can take away is not in it: files like
cgroup.kill, what clone3(2) finds behind its pointer, the contents of /proc. For the first two the
feature is switched off by name; `./dev kernels` boots real kernels for the rest.
"""

import errno
import os
from typing import NamedTuple


class Profile(NamedTuple):
    about: str
    rules: tuple  # of deny.cpp
    features: frozenset  # of `cleanfork doctor` that are there at most
    switched_off: tuple = ()  # features that no filter of calls can take away
    capabilities: tuple = ()  # the only ones that root has there, when there are any
    refuses: str = ""  # cleanfork does not run there, and says this
    no_tree: str = ""  # the target tree is refused there, and the reason has this


def rule(call, error, *conditions):
    return ":".join((call, *conditions)) + f"={error}"


# ---- kernels

# From include/uapi/linux/pidfd.h of Linux 6.15.
GET_INFO = 0xC040FF0B
# Numbers of asm-generic/unistd.h, which all architectures share from 424 on: the last call that
# each of these kernels has.
LAST_CALL = {"5.10": 440, "5.15": 448, "6.1": 450, "6.6": 453, "6.12": 462}
# (the first kernel that has it, what fails on those before it), by the man page of each call.
FLAGS = (
    ((5, 11), rule("close_range", errno.EINVAL, "arg2&4")),  # CLOSE_RANGE_CLOEXEC
    ((5, 17), rule("prctl", errno.EINVAL, "arg0=0x53564d41")),  # PR_SET_VMA
    ((6, 3), rule("memfd_create", errno.EINVAL, "arg1&0x18")),  # MFD_NOEXEC_SEAL, MFD_EXEC
    ((6, 3), rule("prctl", errno.EINVAL, "arg0=65")),  # PR_SET_MDWE
    ((6, 5), rule("getsockopt", errno.ENOPROTOOPT, "arg1=1", "arg2=77")),  # SO_PEERPIDFD
    ((6, 5), rule("setsockopt", errno.ENOPROTOOPT, "arg1=1", "arg2=76")),  # SO_PASSPIDFD
    ((6, 9), rule("pidfd_send_signal", errno.EINVAL, "arg3&7")),
    ((6, 9), rule("pidfd_open", errno.EINVAL, "arg1&0x80")),  # PIDFD_THREAD
    ((6, 10), rule("fcntl", errno.EINVAL, "arg1=1027")),  # F_DUPFD_QUERY
    ((6, 13), rule("ioctl", errno.ENOTTY, f"arg1={GET_INFO}")),
)
# Each feature of ipc/base/features.hpp, and the first kernel that has it.
FEATURES = {"execveat": (3, 19), "clone_into_cgroup": (5, 7), "close_range_unshare": (5, 9),
            "cgroup_kill": (5, 14), "pidfd_signal_group": (6, 9), "pidfd_exit_info": (6, 15)}
ALL = frozenset(FEATURES)


def kernel(version):
    number = tuple(map(int, version.split(".")))
    rules = [r for since, r in FLAGS if since > number]
    rules.append(rule(f"above-{LAST_CALL[version]}", errno.ENOSYS))
    there = frozenset(f for f, since in FEATURES.items() if since <= number)
    return Profile(f"Linux {version}", tuple(rules), there,
                   tuple(sorted({"cgroup_kill"} - there)))


# ---- docker

# What github.com/moby/profiles (seccomp/default.json, 2026-06-30) does not allow without further
# capabilities, of the calls that there is a reason to try: EPERM, and ENOSYS for clone3 (since
# 4489e67, 2021-07). runc answers ENOSYS for each call that is newer than any the profile names
# (its libcontainer/seccomp/patchbpf): 466 is removexattrat.
DOCKER_REFUSES = """
acct add_key bpf clock_settime delete_module fanotify_init finit_module fsconfig fsmount fsopen
fspick get_mempolicy init_module io_uring_enter io_uring_register io_uring_setup kcmp kexec_load
keyctl mbind migrate_pages mount mount_setattr move_mount move_pages open_by_handle_at open_tree
perf_event_open pidfd_getfd pivot_root process_madvise quotactl reboot request_key set_mempolicy
setdomainname sethostname setns settimeofday swapon syslog umount2 unshare userfaultfd vhangup
""".split()
CLONE_NEW = 0x7E020000  # every CLONE_NEW* but CLONE_NEWTIME, which is no flag of clone(2)
# github.com/moby/moby, daemon/pkg/oci/caps/defaults.go
DOCKER_CAPABILITIES = """
chown dac_override fsetid fowner mknod net_raw setgid setuid setfcap setpcap net_bind_service
sys_chroot kill audit_write
""".split()
DOCKER = Profile(
    "docker's default seccomp profile and capabilities",
    (*(rule(call, errno.EPERM) for call in DOCKER_REFUSES),
     rule("clone", errno.EPERM, f"arg0&{CLONE_NEW}"),
     rule("clone3", errno.ENOSYS),
     rule("personality", errno.EPERM, "arg0&0x40000"),  # ADDR_NO_RANDOMIZE
     rule("above-466", errno.ENOSYS)),
    ALL - {"clone_into_cgroup"},
    capabilities=tuple(DOCKER_CAPABILITIES))


# ---- gVisor

# github.com/google/gvisor at 3c5eee17dc45 (2026-08-21): the table AMD64 of
# pkg/sentry/syscalls/linux/linux64.go, which answers ENOSYS for what it does not name, and
# setableLimits of sys_rlimit.go, isSchedulerSupported of sys_sched.go.
GVISOR_LACKS = {
    errno.ENOSYS: """
        add_key copy_file_range fanotify_init fanotify_mark fspick io_uring_register
        mount_setattr openat2 pkey_alloc pkey_mprotect process_madvise setfsgid setfsuid
        userfaultfd vmsplice mq_timedsend""".split(),
    errno.EPERM: "sched_rr_get_interval sched_setparam".split(),
    errno.EACCES: ["request_key"],
    errno.ENODEV: ["perf_event_open"],
    errno.EOPNOTSUPP: "name_to_handle_at open_by_handle_at".split(),
}
# RLIMIT_LOCKS, SIGPENDING, MSGQUEUE, NICE, RTPRIO, RTTIME can be read, not set.
GVISOR_FIXED_LIMITS = range(10, 16)
GVISOR = (
    *(rule(call, error) for error, calls in GVISOR_LACKS.items() for call in calls),
    *(rule("sched_setscheduler", errno.EINVAL, f"arg1={policy}") for policy in (1, 2)),
    *(rule("prlimit64", errno.EPERM, f"arg1={limit}", "arg2!=0") for limit in GVISOR_FIXED_LIMITS),
    rule("ioctl", errno.ENOTTY, f"arg1={GET_INFO}"),  # kernel/pidfd.go has no ioctl
    rule("above-441", errno.ENOSYS),
)

PROFILES = {
    "docker-default": DOCKER,
    # CLONE_INTO_CGROUP is there since 2026-07-06 (c33b3a12a), once a cgroup2 has been mounted;
    # else it is EINVAL.
    "gvisor": Profile("gVisor of August 2026, without cgroup2", GVISOR,
                      ALL - {"pidfd_exit_info", "clone_into_cgroup", "cgroup_kill"},
                      switched_off=("cgroup_kill", "clone_into_cgroup"),
                      no_tree="gVisor"),
    # pidfds came with 51a3f690d, 2026-04-30. Before, CLONE_PIDFD is EINVAL, and P_PIDFD too.
    "gvisor-2025": Profile(
        "gVisor before May 2026, without pidfds",
        (*GVISOR, rule("clone", errno.EINVAL, "arg0&0x1000"), rule("pidfd_open", errno.ENOSYS),
         rule("pidfd_send_signal", errno.ENOSYS), rule("pidfd_getfd", errno.ENOSYS),
         rule("waitid", errno.EINVAL, "arg0=3")),
        frozenset(), refuses="pidfd"),
    **{f"kernel-{version}": kernel(version) for version in LAST_CALL},
}


def under(profile, helpers, argv):
    """The words that run a program under the profile; `helpers` is where deny.cpp was built to."""
    if profile.capabilities and os.geteuid() == 0:
        only = ",".join(("-all", *(f"+{name}" for name in profile.capabilities)))
        argv = ["/usr/bin/setpriv", f"--bounding-set={only}", f"--inh-caps={only}", *argv]
    return [f"{helpers}/deny", *(f"--deny={each}" for each in profile.rules),
            f"--program={argv[0]}", *argv[1:]]


def environment_under(profile):
    return {"CLEANFORK_FEATURES": ",".join(sorted(profile.features)),
            "CLEANFORK_NO_TREE": profile.no_tree,
            "CLEANFORK_DISABLE_FEATURES": ",".join(profile.switched_off)}
