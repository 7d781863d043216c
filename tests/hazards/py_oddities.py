"""Group 8 in Python: what belongs to the process as a whole, and to whoever touches it last."""

import ctypes
import os
import select
import signal
import subprocess
import tempfile
import threading
import time

from py_support import Damage, bound, case, finish, main, read_all

CODE = 7


def module(scene):
    if scene.forks:
        return subprocess
    import cleanfork.subprocess

    return cleanfork.subprocess


def exits_seven(scene):
    return module(scene).Popen(["sh", "-c", f"exit {CODE}"], stdin=subprocess.DEVNULL)


def exact(code):
    if code == CODE:
        return None
    return Damage("wrong", f"the program exited {CODE}; Popen.wait() returns {code}")


@case(8, "py-waitpid", "waitpid(-1) in a library: Popen.wait() is 0", 20, 100)
def stolen(scene):
    def once(_):
        p = exits_seven(scene)
        ended = os.pidfd_open(p.pid) if scene.forks else os.dup(p.pidfd)
        select.select([ended], [], [], bound())
        os.close(ended)
        try:  # the library
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
        return exact(p.wait(bound()))

    scene.each(once)


@case(8, "py-sigchld", "SIGCHLD ignored by a library: the same", 20, 100)
def ignored(scene):
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    scene.each(lambda _: exact(exits_seven(scene).wait(bound())))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


# ---- the parent's handlers

wake = threading.Event()


def live_long(connection):
    connection.send("ready")
    time.sleep(3600)


@case(8, "py-terminate", "SIGTERM: the parent's handler in the child", 6, 20)
def terminate(scene):
    """A program that ends gracefully: its handler only sets an event."""
    signal.signal(signal.SIGTERM, lambda *_: wake.set())

    def once(_):
        ours, theirs = scene.context.Pipe()
        process = scene.start(live_long, theirs)
        ours.poll(bound())
        process.terminate()
        end = finish(process, time.monotonic() + bound(0.5))
        ours.close()
        theirs.close()
        return None if end.code == -signal.SIGTERM else Damage(
            "ignored", f"after terminate() the child {end}")

    scene.each(once)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


# ---- the parent-death signal


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


@case(8, "py-pdeathsig", "PDEATHSIG, by a thread that ended", 10, 50)
def thread_ended(scene):
    """Meant: the program ends with its parent. Through cleanfork, it ends with the session."""
    options = {"preexec_fn": die_with_parent} if scene.forks else {}

    def once(_):
        started = []

        def start():
            p = module(scene).Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                    **options)
            p.stdin.write(b"x")
            p.stdin.flush()
            p.stdout.read(1)  # it runs
            started.append(p)

        thread = threading.Thread(target=start)
        thread.start()
        thread.join()
        p = started[0]
        # Its end of the pipe is closed when it was killed.
        killed = read_all(p.stdout.fileno(), 0.02) == b"" and p.poll() is not None
        p.stdin.close()
        code = p.wait(bound())
        p.stdout.close()
        return Damage("killed", f"a thread ended, the parent lives, wait() returns {code}") \
            if killed or code != 0 else None

    scene.each(once)


# ---- what a program does at its end


@case(8, "py-cleanup", "sys.exit() of the child: the parent's files", 10, 50)
def cleanup(scene):
    def once(_):
        with tempfile.TemporaryDirectory() as directory:
            scene.fork(time.time)
            there = os.path.isdir(directory)
            if not there:
                os.mkdir(directory)  # so that it can be removed
        return None if there else Damage("removed", "the child has removed the parent's "
                                                    "temporary directory")

    scene.each(once)


if __name__ == "__main__":
    main()
