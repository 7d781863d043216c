"""What a machine does to a forkserver: it stands still for long, and memory is short.

Two seconds stand for a minute, which ./dev soak takes (CLEANFORK_SOAK).
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import time
import unittest

from support import CLEANFORK, DEADLINE, Server, await_state, await_true, read_line
from template_support import PROGRAM, TemplateTest

STANDS_STILL = 60 if os.environ.get("CLEANFORK_SOAK") else 2
MEMORY = 32 << 20


@contextlib.contextmanager
def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        await_state(pid, "T")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class StandsStill(TemplateTest):
    def forkserver(self):
        stats = self.cleanfork("stats", "--json", "--socket", self.server.socket)
        return json.loads(stats.stdout)["pid"]

    def begin(self, script):
        """A spawn whose program has said that it runs."""
        process = self.start("sh", "-c", "echo begun; " + script,
                             env={**os.environ, "CLEANFORK_SOCKET": self.server.socket})
        self.assertEqual(read_line(process.stdout), "begun")
        return process

    def check_all_is_well(self):
        self.assertEqual(self.cleanfork("spawn", "--socket", self.server.socket, "sh", "-c",
                                        "exit 3").returncode, 3)

    def test_the_forkserver(self):
        ends_meanwhile, ends_later = self.begin("sleep 0.3; exit 7"), self.begin("read x; exit 9")
        with stopped(self.forkserver()):
            time.sleep(STANDS_STILL)  # what is tested is this time
        self.assertEqual(ends_meanwhile.wait(DEADLINE), 7)
        ends_later.stdin.write(b"\n")
        self.assertEqual(ends_later.wait(DEADLINE), 9)
        self.check_all_is_well()

    def test_a_template_whose_child_ends_meanwhile(self):
        self.add()
        pid = json.loads(self.template("show", "t", "--json").stdout)["generations"][0]["pid"]
        call = subprocess.Popen([CLEANFORK, "call", *self.at, "t", "exit_when_told", "5"],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.addCleanup(self.end, call)
        self.assertEqual(read_line(call.stdout), "begun")
        with stopped(pid):
            call.stdin.write(b"\n")
            time.sleep(STANDS_STILL)
        self.assertEqual(call.wait(DEADLINE), 5)
        self.assertEqual(self.call("t", "nothing").returncode, 0)

    def test_a_client(self):
        client = self.begin("sleep 0.3; exit 7")
        with stopped(client.pid):
            before = time.monotonic()
            while time.monotonic() - before < STANDS_STILL:
                self.check_all_is_well()
        self.assertEqual(client.wait(DEADLINE), 7)


def memory_cgroup():
    """A new one with this limit, of either version; None where none can be had."""
    with open("/proc/self/mountinfo") as mounts:
        for line in mounts:
            found = re.match(r"\S+ \S+ \S+ \S+ (\S+) .* - (cgroup2?) \S+ (\S+)", line)
            if found is None or (found[2] == "cgroup" and "memory" not in found[3].split(",")):
                continue
            path = os.path.join(found[1], f"cleanfork-test-{os.getpid()}")
            limit = "memory.max" if found[2] == "cgroup2" else "memory.limit_in_bytes"
            try:
                os.mkdir(path)
            except OSError:
                continue
            try:
                with open(os.path.join(path, limit), "w") as file:
                    file.write(str(MEMORY))
                return path
            except OSError:
                os.rmdir(path)
    return None


def remove(cgroup):
    def done():
        with contextlib.suppress(OSError):
            os.rmdir(cgroup)
        return not os.path.exists(cgroup)

    await_true(done)


@unittest.skipIf(os.environ.get("CLEANFORK_SANITIZE"), "a sanitizer alone needs more memory")
class LittleMemory(TemplateTest):
    def setUp(self):
        cgroup = memory_cgroup()
        if cgroup is None:
            self.skipTest("no cgroup with a memory limit to be had")
        self.addCleanup(remove, cgroup)
        self.server = Server(under=(
            "sh", "-c", f"echo $$ > {cgroup}/cgroup.procs && exec \"$@\"", "sh"))
        self.addCleanup(self.server.close)
        self.at = ("--socket", self.server.socket)

    def test_statuses_are_exact_and_nobody_is_lost(self):
        self.add("t", "--warm", "2")
        wanted = list(range(1, 33))
        clients = [subprocess.Popen(
            [CLEANFORK, "spawn", *self.at, "sh", "-c",
             f"for i in 1 2 3 4 5 6 7 8; do /bin/true; done; exit {code}"]) for code in wanted]
        calls = [self.call("t", "exit", str(code)).returncode for code in wanted]
        self.assertEqual([client.wait(DEADLINE) for client in clients], wanted)
        self.assertEqual(calls, wanted)
        stats = json.loads(self.cleanfork("stats", "--json", *self.at).stdout)
        self.assertEqual(stats["children"], 1, stats)  # the template


if __name__ == "__main__":
    unittest.main()
