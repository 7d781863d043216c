"""Runs a command and fails when it leaves anything behind: a process or a file.

    leftovers.py [--grace SECONDS] COMMAND [ARG...]

The command gets a fresh TMPDIR and XDG_RUNTIME_DIR. This process is a subreaper, so
that whatever outlives its parent comes here; what is still alive after the grace is
named, killed, and makes the run fail. Otherwise the command's own status is returned.
"""

import argparse
import ctypes
import os
import select
import shutil
import signal
import sys
import tempfile
import time

PR_SET_CHILD_SUBREAPER = 36


def become_subreaper():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def environment(directory):
    env = dict(os.environ)
    for name in ("CLEANFORK_SOCKET", "CLEANFORK_DAEMON", "LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET"):
        env.pop(name, None)
    env["TMPDIR"] = directory
    env["XDG_RUNTIME_DIR"] = os.path.join(directory, "run")
    os.mkdir(env["XDG_RUNTIME_DIR"], 0o700)
    return env


def run(command, env):
    """Waits for the command, and meanwhile reaps the orphans that end here."""
    child = os.posix_spawnp(command[0], command, env)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command gets it too, and decides
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child:
            return os.waitstatus_to_exitcode(status)


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


def describe(pid, state):
    """The command line, and the test it comes from if its environment still says so."""
    try:
        words = read(pid, "cmdline").replace(b"\0", b" ").strip() or read(pid, "comm").strip()
        environ = {} if state == "Z" else variables(pid)
    except OSError:
        return f"{pid} (ended meanwhile)"
    text = words.decode(errors="replace")
    text = "".join(c if c.isprintable() else "?" for c in text)[:200]
    test = environ.get(b"CLEANFORK_TEST", b"").decode(errors="replace")
    return f"{pid} {text}" + (" (zombie)" if state == "Z" else "") + (f" of {test}" if test else "")


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


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--grace", type=float, default=10)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()

    become_subreaper()
    directory = tempfile.mkdtemp(prefix="cleanfork-test-")
    # Tests that change their user pass through it, to what they have put there for him.
    os.chmod(directory, 0o711)
    try:
        code = run(options.command, environment(directory))
        clean = wait_for_all(options.grace)
        if not clean:
            for pid, state in sorted(descendants().items()):
                print(f"left behind: process {describe(pid, state)}", file=sys.stderr)
            kill_all()
        for path in stray_files(directory):
            clean = False
            print(f"left behind: file {path}", file=sys.stderr)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if code < 0:
        return 128 - code
    return code or (0 if clean else 1)


if __name__ == "__main__":
    sys.exit(main())
