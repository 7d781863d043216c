"""The forkserver is killed in the middle: statuses are exact through the pidfd, or unknown, never made up.

Each program here is a subreaper and reaps what falls to it: the children's new parent has to
reap them before anybody can know how they ended.
"""

import os
import signal
import unittest

from support import run_python

PROGRAM = """
import asyncio, ctypes, os, select, signal, sys, threading
import cleanfork, cleanfork.asyncio, cleanfork.subprocess as subprocess

PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0

def server_pidfd():
    return os.pidfd_open(cleanfork.client().server["pid"])

def await_end(pidfd):  # it is nobody's here to reap
    select.select([pidfd], [], [])
    os.close(pidfd)

def lose():
    server = server_pidfd()
    signal.pidfd_send_signal(server, signal.SIGKILL)
    await_end(server)

def reap(*pids):
    for pid in pids:
        os.waitid(os.P_PID, pid, os.WEXITED)

def told(function):
    try:
        return function()
    except cleanfork.StatusUnknown as e:
        assert "forkserver lost" in str(e), e
        return "unknown"

"""


class Lost(unittest.TestCase):
    def run_lost(self, code):
        p = run_python(PROGRAM + code)
        self.assertEqual(p.returncode, 0, p.stderr)
        return p.stdout.split()

    def assert_told(self, got, expected):
        self.assertEqual(len(got), len(expected))
        for each, wanted in zip(got, expected):
            self.assertIn(each, (wanted, "unknown"))

    def test_codes_of_children_that_go_on(self):
        got = self.run_lost("""
codes = [0, 3, 255, -9, -15]
ps = [subprocess.Popen(["cat"], stdin=subprocess.PIPE) if c < 0 else
      subprocess.Popen(["sh", "-c", f"read x; exit {c}"], stdin=subprocess.PIPE) for c in codes]
lose()
for p, c in zip(ps, codes):
    assert p.poll() is None
    p.send_signal(-c) if c < 0 else p.stdin.close()
reap(*(p.pid for p in ps))
print(*(told(p.wait) for p in ps))
""")
        self.assert_told(got, ["0", "3", "255", "-9", "-15"])

    def test_poll_and_timeouts(self):
        got = self.run_lost("""
p = subprocess.Popen(["sh", "-c", "read x; exit 4"], stdin=subprocess.PIPE)
lose()
try:
    p.wait(timeout=0.1)
except subprocess.TimeoutExpired:
    print("expired")
p.stdin.close()
reap(p.pid)
print(told(p.poll))
""")
        self.assert_told(got, ["expired", "4"])

    def test_a_thread_that_waits(self):
        got = self.run_lost("""
p = subprocess.Popen(["sh", "-c", "read x; exit 5"], stdin=subprocess.PIPE)
results = []
t = threading.Thread(target=lambda: results.append(told(p.wait)))
t.start()
lose()
p.stdin.close()
reap(p.pid)
t.join()
print(*results)
""")
        self.assert_told(got, ["5"])

    def test_a_child_that_kills_the_server(self):
        got = self.run_lost("""
cleanfork.start()
server = server_pidfd()
command = f"read x; kill -9 {cleanfork.client().server['pid']}; exit 6"
p = subprocess.Popen(["sh", "-c", command], stdin=subprocess.PIPE)
p.stdin.close()
await_end(server)
reap(p.pid)
print(told(p.wait))
""")
        self.assert_told(got, ["6"])

    def test_asyncio(self):
        got = self.run_lost("""
async def main():
    p = await cleanfork.asyncio.create_subprocess_exec(
        "sh", "-c", "read x; exit 7", stdin=subprocess.PIPE)
    lose()
    p.stdin.close()
    await p.stdin.wait_closed()
    reap(p.pid)
    try:
        print(await p.wait(), p.returncode)
    except cleanfork.StatusUnknown:
        print("unknown", "unknown")
asyncio.run(main())
""")
        self.assert_told(got, ["7", "7"])

    def test_the_next_process_gets_a_new_server(self):
        got = self.run_lost("""
first = cleanfork.client().server["pid"]
lose()
print(subprocess.run(["false"]).returncode, cleanfork.client().server["pid"] != first)
""")
        self.assertEqual(got, ["1", "True"])

    def test_no_status_is_ever_made_up_under_fire(self):
        got = self.run_lost("""
reaping = set()
for round in range(5):
    codes = list(range(1, 9))
    ps = [subprocess.Popen(["sh", "-c", f"exit {c}"]) for c in codes]
    lose()
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            break
    for p, c in zip(ps, codes):
        assert told(p.wait) in (c, "unknown"), (p.returncode, c)
print("done")
""")
        self.assertEqual(got, ["done"])


if __name__ == "__main__":
    unittest.main()
