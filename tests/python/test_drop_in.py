"""The name "forkserver" served by cleanfork: what the standard module tells of its server."""

import unittest

from mp_support import Programs

BEGIN = """
import multiprocessing, os, select, signal
import cleanfork
from multiprocessing import forkserver

cleanfork.install()
ctx = multiprocessing.get_context("forkserver")

def nothing():
    pass
def wait(connection):
    connection.recv()
def run(target, *args):
    p = ctx.Process(target=target, args=args)
    p.start()
    return p
def named():
    forkserver.ensure_running()
    return forkserver._forkserver._forkserver_pid
def template():
    [info] = cleanfork.client().templates()
    return info
def pids(state):
    return [g["pid"] for g in template()["generations"] if g["state"] == state]
def ended(pidfd, timeout=0):
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout))
"""


class NamedPid(Programs):
    def test_is_of_the_template_that_is_ready_and_not_of_one_that_drains(self):
        self.prints(BEGIN + """
if __name__ == "__main__":
    first = named()
    ours, theirs = ctx.Pipe()
    p = run(wait, theirs)
    cleanfork.client().reload_template(template()["name"])
    second = named()
    print(pids("draining") == [first], pids("ready") == [second])
    ours.send(1)
    p.join()
    print(p.exitcode)
""", "True True 0")

    def test_is_never_of_a_template_that_was_killed_before(self):
        self.prints(BEGIN + """
if __name__ == "__main__":
    for _ in range(10):
        pid = named()
        pidfd = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        ended(pidfd, None)
        os.close(pidfd)
        pidfd = os.pidfd_open(named())
        assert not ended(pidfd)
        os.close(pidfd)
    p = run(nothing)
    p.join()
    print(p.exitcode)
""", "0")

    def test_is_of_the_same_process_after_an_interrupt(self):
        # The standard forkserver ignores it, too.
        self.prints(BEGIN + """
if __name__ == "__main__":
    pid = named()
    os.kill(pid, signal.SIGINT)
    for _ in range(3):  # more than are forked ahead
        p = run(nothing)
        p.join()
        assert p.exitcode == 0
    print(named() == pid, template()["restarts"])
""", "True 0")


class Preloads(Programs):
    def test_what_a_preload_sets_up_is_there_in_the_children(self):
        # Found by a path that the program adds after it has named the module, as by the standard one.
        self.prints('''
import multiprocessing, os, signal, sys
import cleanfork
cleanfork.install()
ctx = multiprocessing.get_context("forkserver")
SETTINGS = """import os, signal
os.environ["SET_BY_PRELOAD"] = "1"
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
signal.signal(signal.SIGUSR2, lambda *_: None)
"""
def found():
    return (os.environ["SET_BY_PRELOAD"], signal.getsignal(signal.SIGUSR1) == signal.SIG_IGN,
            callable(signal.getsignal(signal.SIGUSR2)))
if __name__ == "__main__":
    ctx.set_forkserver_preload(["settings"])
    os.mkdir("later")
    with open("later/settings.py", "w") as file:
        file.write(SETTINGS)
    sys.path.insert(0, os.path.abspath("later"))
    with ctx.Pool(1) as pool:
        print(*pool.apply(found))
''', "1 True True")


if __name__ == "__main__":
    unittest.main()
