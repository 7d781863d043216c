"""What a manager of services hears of cleanforkd, and its units."""

import os
import re
import shutil
import signal
import subprocess
import time
import unittest

from support import CLEANFORK, DEADLINE
from test_config import ConfigTest, Manager

TREE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
UNITS = os.path.join(TREE, "client/packaging/systemd")


class Told(ConfigTest):
    def test_it_says_where_it_serves_and_that_it_stops(self):
        self.write("")
        manager = Manager(self.directory)
        self.addCleanup(manager.socket.close)
        with subprocess.Popen([CLEANFORK, "serve", *self.at], stderr=subprocess.DEVNULL,
                              env={**os.environ, "NOTIFY_SOCKET": manager.path}) as daemon:
            self.assertEqual(manager.told(), {"READY": "1", "STATUS": f"Serving {self.socket}"})
            daemon.terminate()
            self.assertEqual(manager.told()["STOPPING"], "1")
            self.assertEqual(daemon.wait(DEADLINE), 0)

    def test_the_watchdog_is_told_by_the_loop_and_only_while_it_turns(self):
        self.begin("", WATCHDOG_USEC="100000")
        for _ in range(5):
            self.assertEqual(self.manager.told(), {"WATCHDOG": "1"})
        self.daemon.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.daemon.pid, os.WSTOPPED)
        self.manager.socket.setblocking(False)
        with self.assertRaises(BlockingIOError):
            while True:
                self.manager.told()
        self.manager.socket.settimeout(DEADLINE)
        self.daemon.send_signal(signal.SIGCONT)
        self.assertEqual(self.manager.told(), {"WATCHDOG": "1"})

    def test_a_watchdog_of_another_process_is_not_told(self):
        self.begin("", WATCHDOG_USEC="1000", WATCHDOG_PID="1")
        self.reload()
        self.manager.socket.setblocking(False)
        with self.assertRaises(BlockingIOError):
            self.manager.told()

    def test_none_of_it_is_of_a_child(self):
        self.begin("", WATCHDOG_USEC="1000000000")
        done = self.cleanfork("spawn", *self.at, "--identity", "forkserver", "env")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertNotIn("WATCHDOG", done.stdout)


class Idle(ConfigTest):
    @unittest.skipUnless(shutil.which("strace"), "there is no strace")
    def test_a_forkserver_with_nothing_to_do_makes_no_call(self):
        """./dev soak looks for a minute."""
        self.begin("max-children = 5\n")
        # What begins with the first session is over with it.
        self.assertEqual(self.cleanfork("ps", *self.at).returncode, 0)
        trace = os.path.join(self.directory, "trace")
        with subprocess.Popen(["strace", "-f", "-o", trace, "-p", str(self.daemon.pid)],
                              stderr=subprocess.PIPE) as strace:
            self.assertIn(b"attached", strace.stderr.readline())
            # There is no event for that nothing happens.
            time.sleep(60 if os.environ.get("CLEANFORK_SOAK") else 3)
            strace.send_signal(signal.SIGINT)
            strace.stderr.read()
        with open(trace, encoding="utf-8") as file:
            calls = [line for line in file if not line.endswith("<detached ...>\n")]
        self.assertEqual([c for c in calls if "epoll_wait(" not in c or "resumed" in c], [])


class Units(unittest.TestCase):
    """The units as they are installed."""

    def setUp(self):
        self.directory = os.path.join(os.path.dirname(CLEANFORK), "../package/systemd")

    def test_they_are_what_systemd_understands(self):
        if not shutil.which("systemd-analyze"):
            self.skipTest("there is no systemd-analyze")
        for kind in ("system", "user"):
            units = [os.path.join(self.directory, kind, f"cleanforkd.{suffix}")
                     for suffix in ("socket", "service")]
            done = subprocess.run(["systemd-analyze", "verify", "--man=no", f"--{kind}", *units],
                                  capture_output=True, text=True, timeout=DEADLINE * 3,
                                  check=False, env={**os.environ, "XDG_RUNTIME_DIR": "/run"})
            # That the program is not installed is no fault of the unit.
            told = [line for line in done.stderr.splitlines()
                    if "cleanforkd" in line and "is not executable" not in line]
            self.assertEqual(told, [], done.stderr)

    def test_the_sandbox_for_what_needs_no_more_is_one(self):
        if not shutil.which("systemd-analyze"):
            self.skipTest("there is no systemd-analyze")
        directory = os.path.join(self.directory, "system")
        with open(f"{directory}/cleanforkd.service", encoding="utf-8") as file:
            service = file.read()
        with open(f"{UNITS}/hardened.conf", encoding="utf-8") as file:
            hardened = service + file.read().split("[Service]\n", 1)[1]
        self.assertGreater(self.exposure(service), 9, "it is to be as open as its callers")
        self.assertLess(self.exposure(hardened), 4)

    def exposure(self, text):
        path = os.path.join(self.directory, "test-cleanforkd.service")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        self.addCleanup(os.unlink, path)
        done = subprocess.run(["systemd-analyze", "security", "--no-pager", "--offline=true", path],
                              capture_output=True, text=True, timeout=DEADLINE * 3, check=False)
        told = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
        self.assertTrue(told, done.stdout + done.stderr)
        self.doCleanups()
        return float(told[1])

    def test_each_line_that_is_left_out_has_its_word(self):
        with open(f"{UNITS}/cleanforkd.service.in", encoding="utf-8") as file:
            service = file.read()
        with open(f"{UNITS}/hardened.conf", encoding="utf-8") as file:
            lines = re.findall(r"^([A-Z]\w+)=", file.read(), re.MULTILINE)
        for name in lines:
            if name != "SystemCallErrorNumber":
                self.assertRegex(service, rf"(?m)^#.*\b{name}=")


if __name__ == "__main__":
    unittest.main()
