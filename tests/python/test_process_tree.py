"""Where the processes are in the process tree, and what the program notices of it."""

import os
import unittest

from support import helper, run_python

# Counts what falls to the program: SIGCHLD, children that wait(2) meets, zombies among the rest.
PROGRAM = """
import ctypes, os, select, signal, sys, time
import cleanfork, cleanfork.subprocess as subprocess

signals = 0
def count(*_):
    global signals
    signals += 1
signal.signal(signal.SIGCHLD, count)

def stat(pid):
    with open(f"/proc/{pid}/stat") as f:
        return f.read().rpartition(")")[2].split()

def parent(pid):
    return int(stat(pid)[1])

def descends(pid):
    while pid > 1 and pid != os.getpid():
        pid = parent(pid)
    return pid == os.getpid()

def below(pid):
    "As psutil.Process(pid).children(recursive=True) finds them."
    found = {pid}
    everybody = [int(n) for n in os.listdir("/proc") if n.isdigit()]
    parents = {}
    for each in everybody:
        try:
            parents[each] = parent(each)
        except OSError:
            pass
    grown = True
    while grown:
        more = {each for each, its in parents.items() if its in found} - found
        found |= more
        grown = bool(more)
    return found - {pid}

def name(pid):
    with open(f"/proc/{pid}/comm") as f:
        return f.read().strip()

def own_children():
    with open("/proc/thread-self/children") as f:
        return [int(pid) for pid in f.read().split()]

def nobody_to_wait_for():
    try:
        return os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return True

def await_end(pid):
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    select.select([pidfd], [], [])
    os.close(pidfd)
"""


class Tree(unittest.TestCase):
    def run_program(self, code, *arguments, **options):
        p = run_python(PROGRAM + code, *arguments, **options)
        self.assertEqual(p.returncode, 0, p.stderr)
        return p.stdout.split()

    def test_processes_are_found_below_the_program_and_killed_by_a_watchdog(self):
        self.assertEqual(self.run_program("""
ctx = cleanfork.get_context()
p = ctx.Process(target=time.sleep, args=(3600,))
p.start()
q = subprocess.Popen(["sleep", "infinity"])
tree = below(os.getpid())
print(p.pid in tree, q.pid in tree, cleanfork.client().server["pid"] in tree, signals,
      flush=True)
for each in tree:
    try:
        os.kill(each, signal.SIGKILL)
    except ProcessLookupError:
        pass  # a template ends with its forkserver
await_end(p.pid)
await_end(q.pid)
os._exit(0)  # without what multiprocessing does at the end
"""), ["True", "True", "True", "0"])

    def test_stop_leaves_nothing(self):
        self.assertEqual(self.run_program("""
for _ in range(3):
    subprocess.run(["true"])
    server = cleanfork.client().server["pid"]
    cleanfork.stop()
    await_end(server)
print(own_children(), signals, nobody_to_wait_for())
"""), ["[]", "0", "True"])

    def test_a_program_that_was_replaced_by_exec_is_left_in_peace(self):
        self.assertEqual(self.run_program("""
import json
turn, seen = json.loads(sys.argv[1]) if len(sys.argv) > 1 else (0, [])
if turn == 0:
    seen = []
if turn < 3:
    subprocess.run(["true"])
    # Those of the programs before this one have ended.
    seen.append([name(pid) for pid in own_children()])
    server = cleanfork.client().server["pid"]
    # The end of the program that is replaced is the end of its session.
    code = sys.orig_argv[2]
    os.execv(sys.executable, [sys.executable, "-c", code, json.dumps([turn + 1, seen + [server]])])
server = seen.pop()
await_end(server)
left = own_children()
while [name(pid) for pid in left] != ["cleanfork-done"]:
    os.sched_yield()
ended = [stat(pid)[0] for pid in left]
print(signals, nobody_to_wait_for(), ended == ["S"],
      [each for each in seen if isinstance(each, list)] == [["cleanfork-wait"]] * 3)
"""), ["0", "True", "True", "True"])

    def test_a_forked_copy_ends_nothing(self):
        self.assertEqual(self.run_program("""
subprocess.run(["true"])
server = cleanfork.client().server["pid"]
if (pid := os.fork()) == 0:
    cleanfork.stop()
    subprocess.run(["true"])
    sys.exit(0)
print(os.waitpid(pid, 0)[1], descends(server), subprocess.run(["true"]).returncode)
"""), ["0", "True", "0"])

    def test_who_asks_for_no_descendant_gets_none(self):
        self.assertEqual(self.run_program("""
client = cleanfork.start(descendant=False)
print(descends(client.server["pid"]), own_children())
client = cleanfork.launch(descendant=True)
print(descends(client.server["pid"]), len(own_children()))
"""), ["False", "[]", "True", "1"])


class Refused(unittest.TestCase):
    def test_where_the_kernel_refuses_it_only_who_asked_for_it_is_told(self):
        deny = helper("deny")
        flags = 0x8000 | 17  # CLONE_PARENT | SIGCHLD
        code = """
import cleanfork
print(cleanfork.launch().spawn("true").wait())
try:
    cleanfork.launch(descendant=True)
except cleanfork.SpawnError as e:
    print(e.step, e.errno, e.object)
"""
        import subprocess
        import sys
        out = subprocess.run([deny, "-c", code, f"--deny=clone:arg0={flags}=1",
                              f"--program={sys.executable}"], capture_output=True, text=True)
        self.assertEqual(out.stdout.split("\n")[1:], ["launch 1 clone", ""], out.stderr)


if __name__ == "__main__":
    unittest.main()
