"""Faults of the standard forkserver: each is shown there, in a program of its own, and absent here.

A program gets the start method as its argument, and prints one word: what it found.
"""

import os
import signal
import subprocess
import sys
import unittest

from mp_support import Program
from support import DEADLINE

try:
    import numpy
except ImportError:
    numpy = None

BEGIN = f"DEADLINE = {DEADLINE}" + """
import multiprocessing as mp, os, signal, socket, sys, time
import cleanfork
method = sys.argv[1]
ctx = mp.get_context(method)
from multiprocessing import forkserver
def server():
    "The process that forks the others."
    if method == "forkserver":
        return forkserver._forkserver._forkserver_pid
    return cleanfork.client().server["pid"]
def address():
    if method == "forkserver":
        return forkserver._forkserver._forkserver_address
    return None
def nothing():
    pass
def run(target, *args):
    p = ctx.Process(target=target, args=args)
    p.start()
    p.join(10 if method == "forkserver" else DEADLINE)
    return p.exitcode
def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
"""


class Faults(unittest.TestCase):
    """compare(): what the standard method prints, and what this one does."""

    def found(self, method, text, timeout=DEADLINE):
        with Program(BEGIN + text) as program:
            # One that is killed leaves its socket in its temporary directory.
            p = program.start(method, start_new_session=True,
                              env={"TMPDIR": program.directory.name})
            try:
                out, err = p.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                # Its forkserver and its children are in its session, and hold its output.
                os.killpg(p.pid, signal.SIGKILL)
                out, err = p.communicate()
                err += "it was killed after a while"
        return (out.split() or ["nothing"])[-1], err

    def compare(self, text, stock, here, timeout=DEADLINE):
        got, err = self.found("cleanfork", text)
        self.assertEqual(got, here, err)
        got, err = self.found("forkserver", text, timeout)
        if got != stock:  # this Python's may have been mended: that is no failure of ours
            print(f"the standard forkserver: {got}, not {stock}", file=sys.stderr)

    # ---- the server

    def test_a_malformed_connection_kills_it(self):
        # Anything that connects and sends no descriptors ends the loop with an exception.
        self.compare("""
if __name__ == "__main__":
    run(nothing)
    pid = server()
    if method == "forkserver":
        s = socket.socket(socket.AF_UNIX)
        s.connect(address())
        s.sendall(b"x")
        s.close()
    else:
        s = socket.socket(fileno=cleanfork.client().open_session())
        s.send(b"x" * 100)
        s.close()
    deadline = time.monotonic() + DEADLINE
    while method == "forkserver" and alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    code = run(nothing)
    print("lives" if alive(pid) and server() == pid and code == 0 else "killed")
""", "killed", "lives")

    def test_an_idle_connection_blocks_it(self):
        self.compare("""
if __name__ == "__main__":
    run(nothing)
    if method == "forkserver":
        s = socket.socket(socket.AF_UNIX)
        s.connect(address())
    else:
        s = socket.socket(fileno=cleanfork.client().open_session())
    print("blocked", flush=True)
    print("works" if run(nothing) == 0 else "fails")
""", "blocked", "works", timeout=5)

    def test_running_out_of_descriptors_kills_it(self):
        self.compare("""
import resource
def may_open(pid, more):
    "Sets how many descriptors the process may open besides those it has; None: what it was."
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    count = hard
    if more is not None:
        count = more + (cleanfork.client().stats()["descriptors"] if method == "cleanfork" else
                        len(os.listdir(f"/proc/{pid}/fd")))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (count, hard))
if __name__ == "__main__":
    run(nothing)
    pid = server()
    for more in (0, 1, 2, 3):
        may_open(pid, more)
        p = ctx.Process(target=nothing, daemon=True)
        try:
            p.start()
            p.join(3 if method == "forkserver" else DEADLINE)
        except (OSError, EOFError):
            pass
        if not alive(pid):
            break
        may_open(pid, None)
    try:
        print("lives" if run(nothing) == 0 and server() == pid else "killed")
    except OSError:
        print("killed")
""", "killed", "lives")

    def test_exit_statuses_become_255_when_it_dies(self):
        self.compare("""
def end(r):
    r.recv()
    os._exit(3)
if __name__ == "__main__":
    import ctypes
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # a subreaper: it has to reap what is orphaned
    r, w = ctx.Pipe(False)
    p = ctx.Process(target=end, args=(r,))
    p.start()
    pid = server()
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + DEADLINE
    def parent():
        with open(f"/proc/{p.pid}/stat") as f:
            return int(f.read().rpartition(")")[2].split()[1])
    while parent() != os.getpid() and time.monotonic() < deadline:
        time.sleep(0.01)
    w.send(1)
    os.waitid(os.P_PID, p.pid, os.WEXITED)
    try:
        p.join()
        print(p.exitcode if p.exitcode != 3 else "honest")
    except cleanfork.StatusUnknown:
        print("honest")
""", "255", "honest")

    def test_every_level_starts_another(self):
        self.compare("""
def nested(depth, q):
    ctx = mp.get_context(method)
    p = ctx.Process(target=nothing) if depth == 0 else ctx.Process(target=nested, args=(depth - 1, q))
    p.start()
    p.join()
    q.put(server())
if __name__ == "__main__":
    q = ctx.SimpleQueue()
    nested(2, q)
    print(len({q.get() for _ in range(3)}))
""", "3", "1")

    # ---- starting

    def test_more_than_250_descriptors_are_refused(self):
        self.compare("""
def count(*connections):
    os._exit(len(connections) % 200)
if __name__ == "__main__":
    pipes = [ctx.Pipe()[0] for _ in range(300)]
    try:
        print(run(count, *pipes))
    except (ValueError, OSError) as e:
        print("refused")
""", "refused", "100")

    def test_a_large_payload_makes_start_wait_for_the_child(self):
        # The child unpickles a file first, which waits until somebody opens its other end.
        self.compare("""
class Opens:
    def __reduce__(self):
        return open, ("fifo",)
def take(*_):
    pass
if __name__ == "__main__":
    ctx.Process(target=nothing).start()
    os.mkfifo("fifo")
    p = ctx.Process(target=take, args=(Opens(), b"x" * 10_000_000))
    print("waits", flush=True)
    p.start()
    print("returns", flush=True)
    with open("fifo", "w"):
        pass
    p.join()
""", "waits", "returns", timeout=5)

    def test_the_main_script_runs_again_in_each_child(self):
        self.compare("""
with open("ran", "a") as f:
    f.write("x")
if __name__ == "__main__":
    for _ in range(3):
        run(nothing)
    print(os.path.getsize("ran"))
""", "4", "2")

    def test_a_failed_preload_is_silent(self):
        self.compare("""
if __name__ == "__main__":
    if method == "forkserver":
        ctx.set_forkserver_preload(["no_such_module"])
    else:
        ctx = cleanfork.get_context(preload=["no_such_module"])
    try:
        run(nothing)
        print("silent")
    except RuntimeError as e:
        print("told" if "No module named 'no_such_module'" in str(e) else e)
""", "silent", "told")

    # ---- the children

    def test_a_variable_that_is_set_later_is_absent(self):
        self.compare("""
def look():
    os._exit(7 if os.environ.get("SET_LATER") == "yes" else 0)
if __name__ == "__main__":
    run(nothing)
    os.environ["SET_LATER"] = "yes"
    print("absent" if run(look) == 0 else "there")
""", "absent", "there")

    @unittest.skipIf(numpy is None, "numpy is not installed")
    def test_numpy_draws_the_same_in_each_child(self):
        self.compare("""
def draw(q):
    import numpy.random
    q.put(numpy.random.random())
if __name__ == "__main__":
    if method == "forkserver":
        ctx.set_forkserver_preload(["numpy.random"])
    else:
        ctx = cleanfork.get_context(preload=["numpy.random"])
    q = ctx.SimpleQueue()
    for _ in range(3):
        run(draw, q)
    print("same" if len({q.get() for _ in range(3)}) == 1 else "different")
""", "same", "different")

    def test_daemonic_children_outlive_a_killed_parent(self):
        self.compare("""
def parent(w):
    ctx = mp.get_context(method)
    r, theirs = ctx.Pipe()
    p = ctx.Process(target=child, args=(theirs,), daemon=True)
    p.start()
    r.recv()
    w.send(p.pid)
    os.kill(os.getpid(), signal.SIGKILL)
def child(c):
    c.send(1)
    while True:
        signal.pause()
if __name__ == "__main__":
    r, w = ctx.Pipe(False)
    p = ctx.Process(target=parent, args=(w,))
    p.start()
    pid = r.recv()
    p.join()
    deadline = time.monotonic() + (2 if method == "forkserver" else DEADLINE)
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    print("outlive" if alive(pid) else "end")
    if alive(pid):
        os.kill(pid, signal.SIGKILL)
""", "outlive", "end")


if __name__ == "__main__":
    unittest.main()
