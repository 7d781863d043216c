"""Runs a command and fails when it hangs, or leaves anything behind: a process or a file.

    leftovers.py [--limit SECONDS] [--grace SECONDS] COMMAND [ARG...]

The command gets a fresh TMPDIR and XDG_RUNTIME_DIR. This process is a subreaper, so
that whatever outlives its parent comes here; what is still alive after the grace is
named, killed, and makes the run fail. Otherwise the command's own status is returned.

After the limit, or at SIGTERM, the command has hung: it gets SIGABRT, at which doctest
names its test case, and everything that it has made is named, ended and removed. Both
times are those of a usual machine (patience.py).
"""

import argparse
import contextlib
import ctypes
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time

from patience import scaled

PR_SET_CHILD_SUBREAPER = 36
# Variables that may come from whatever this runs in.
STRANGE = ("CLEANFORK_SOCKET", "CLEANFORK_DAEMON", "LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET")
LAST_WORDS = 5  # seconds for what is asked where it is
HUNG = 124  # the status, as of timeout(1)


def become_subreaper():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def environment(directory):
    env = dict(os.environ)
    if "CLEANFORK_TEST" not in env:  # else ctest has set what it means
        for name in STRANGE:
            env.pop(name, None)
    env["TMPDIR"] = directory
    env["XDG_RUNTIME_DIR"] = os.path.join(directory, "run")
    os.mkdir(env["XDG_RUNTIME_DIR"], 0o700)
    return env


class Hung(Exception):
    pass


def give_up(number, _):
    raise Hung("over its limit" if number == signal.SIGALRM else "ended from outside")


def wait_for(child, limit):
    """The exit code of the child; meanwhile reaps the orphans that end here."""
    for number in (signal.SIGALRM, signal.SIGTERM):
        signal.signal(number, give_up)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        while True:
            pid, status = os.waitpid(-1, 0)
            if pid == child:
                return os.waitstatus_to_exitcode(status)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what is left is to tidy up


def ask_where_it_is(child):
    """The last words of a program that hangs, and the end of most."""
    with contextlib.suppress(OSError):  # it has ended just now
        pidfd = os.pidfd_open(child)
        resource.prlimit(child, resource.RLIMIT_CORE, (0, 0))
        signal.pidfd_send_signal(pidfd, signal.SIGABRT)
        select.select([pidfd], [], [], scaled(LAST_WORDS))
        os.close(pidfd)


# Python ignores the first two, nohup the third, and a shell the others for a job in the background:
# a child would inherit that.
_AS_AT_A_TERMINAL = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)


def run(command, env, limit):
    """The exit code of the command, and whether it came to it by itself."""
    # In a group of its own, of which this is a parent outside: the group of whatever this runs in
    # may be orphaned, and would get SIGHUP whenever a test stops a process in it.
    child = os.posix_spawnp(command[0], command, env, setpgroup=0,
                            setsigdef=_AS_AT_A_TERMINAL)

    def pass_on(number, _):  # it decides
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, number)

    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, pass_on)
    begin = time.monotonic()
    try:
        return wait_for(child, limit), True
    except Hung as why:
        seconds = time.monotonic() - begin
        print(f"hung: {printable(' '.join(command))}: {why} after {seconds:.0f} s",
              file=sys.stderr)
    for pid, state in sorted(descendants().items()):
        print(f"hung: process {describe(pid, state)}, {sleep_of(pid)}", file=sys.stderr)
    sys.stderr.flush()
    ask_where_it_is(child)
    kill_all()
    return HUNG, False


def reap():
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def read(pid, name):
    with open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read()


def descendants():
    """The state letter of every process below this one, by process id."""
    parents, states = {}, {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = read(entry, "stat").rpartition(b")")[2].split()
                states[int(entry)], parents[int(entry)] = fields[0].decode(), int(fields[1])
            except OSError:
                pass
    found = {os.getpid()}
    while True:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        if not more:
            return {pid: states[pid] for pid in found - {os.getpid()}}
        found |= more


def variables(pid):
    return dict(entry.partition(b"=")[::2] for entry in read(pid, "environ").split(b"\0"))


def printable(text):
    return "".join(c if c.isprintable() else "?" for c in text)[:200]


def describe(pid, state):
    """The command line, and the test it comes from if its environment still says so."""
    try:
        words = read(pid, "cmdline").replace(b"\0", b" ").strip() or read(pid, "comm").strip()
        environ = {} if state == "Z" else variables(pid)
    except OSError:
        return f"{pid} (ended meanwhile)"
    text = printable(words.decode(errors="replace"))
    test = environ.get(b"CLEANFORK_TEST", b"").decode(errors="replace")
    return f"{pid} {text}" + (" (zombie)" if state == "Z" else "") + (f" of {test}" if test else "")


def sleep_of(pid):
    """What it waits for in the kernel."""
    try:
        return f"in {read(pid, 'wchan').decode() or '?'}"
    except OSError:
        return "ended meanwhile"


def wait_for_all(grace):
    """True when no descendant is left within `grace` seconds."""
    deadline = time.monotonic() + grace
    while True:
        reap()
        alive = descendants()
        if not alive:
            return True
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        try:
            # A zombie's parent is alive here, and it is the one to wait for.
            pidfd = os.pidfd_open(next(pid for pid, state in alive.items() if state != "Z"))
        except StopIteration:
            continue
        except ProcessLookupError:
            continue
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        poll.poll(left * 1000)
        os.close(pidfd)


def kill_all():
    while alive := descendants():
        for pid in alive:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return
        reap()


def stray_files(directory):
    runtime = os.path.join(directory, "run")
    strays = []
    for path, directories, files in os.walk(directory):
        strays += [os.path.join(path, name) for name in files]
        strays += [os.path.join(path, name) for name in directories]
    return sorted(set(strays) - {runtime})


def name_and_end_all():
    for pid, state in sorted(descendants().items()):
        print(f"left behind: process {describe(pid, state)}", file=sys.stderr)
    kill_all()
    return True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--grace", type=float, default=10)
    parser.add_argument("--limit", type=float, default=0, help="0: none")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()

    become_subreaper()
    # Short where it is in another one: the path of a socket has 107 bytes.
    directory = tempfile.mkdtemp(prefix="t-" if "CLEANFORK_TEST" in os.environ else "cleanfork-test-")
    # Tests that change their user pass through it, to what they have put there for him.
    os.chmod(directory, 0o711)
    clean = True
    try:
        code, ended = run(options.command, environment(directory), scaled(options.limit))
        if ended and not wait_for_all(scaled(options.grace)):
            name_and_end_all()
            clean = False
        for path in stray_files(directory):
            clean = False
            print(f"{'left behind' if ended else 'removed'}: file {path}", file=sys.stderr)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if code < 0:
        return 128 - code
    return code or (0 if clean else 1)


if __name__ == "__main__":
    sys.exit(main())
