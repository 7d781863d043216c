"""Trees, restarts and rotated files, from Python."""

import os
import signal
import sys
import tempfile
import time
import unittest

from support import DEADLINE as PATIENCE
from support import wait_readable

from orphan import ORPHAN  # of tests/helpers, which support has found

import cleanfork
import cleanfork.subprocess as subprocess


def await_end(pidfd):
    try:
        wait_readable(pidfd)
    finally:
        os.close(pidfd)


class TreePopen(subprocess.Popen):
    lifetime = cleanfork.Lifetime(keep=True, target="tree")


class Trees(unittest.TestCase):
    def test_kill_tree_ends_descendants_that_got_away(self):
        with TreePopen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE) as process:
            orphan = os.pidfd_open(int(process.stdout.readline()))
            process.kill_tree()
            await_end(orphan)
            self.assertEqual(process.wait(PATIENCE), -signal.SIGKILL)
            process.kill_tree()  # nobody is left

    def test_the_way_is_told_and_a_child_without_it_is_refused(self):
        client = cleanfork.client()
        process = client.spawn("sleep", ["100000"], lifetime=cleanfork.Lifetime(target="tree"))
        self.assertIn(process.tree, ("cgroup", "walk"))
        process.kill_tree()
        self.assertEqual(process.wait(PATIENCE).signal, signal.SIGKILL)
        process = client.spawn("sleep", ["100000"])
        self.assertIsNone(process.tree)
        with self.assertRaisesRegex(cleanfork.SpawnError, "without the target tree"):
            process.kill_tree()
        process.signal(signal.SIGKILL)
        process.wait(PATIENCE)

    def test_an_unknown_target_is_a_value_error(self):
        with self.assertRaisesRegex(ValueError, "'tree'"):
            cleanfork.client().spawn("true", lifetime=cleanfork.Lifetime(target="all"))


class Restarts(unittest.TestCase):
    def test_wait_is_for_the_last_process(self):
        with tempfile.TemporaryDirectory() as directory:
            process = cleanfork.client().spawn(
                "sh", ["-c", "printf x >>count; [ $(wc -c <count) -ge 3 ] || exit 4"],
                cwd=directory, lifetime=cleanfork.KEEP, restart="on-failure",
                restart_delay=0.001, restart_max=9, restart_window=10)
            status = process.wait(PATIENCE)
            self.assertTrue(status, status)
            with open(os.path.join(directory, "count"), encoding="ascii") as count:
                self.assertEqual(count.read(), "xxx")

    def test_a_signal_reaches_the_process_there_is_and_ends_the_restarts(self):
        read_end, write_end = os.pipe()
        with os.fdopen(read_end, "rb", 0) as said:
            process = cleanfork.client().spawn(
                "sh", ["-c", "echo $$; exec sleep 100000"], stdout=write_end,
                lifetime=cleanfork.KEEP, restart="always", restart_delay=0.001)
            os.close(write_end)
            os.kill(int(said.readline()), signal.SIGKILL)
            said.readline()
            self.assertIsNone(process.poll())
            process.signal(signal.SIGTERM)
            self.assertEqual(process.wait(PATIENCE).signal, signal.SIGTERM)
            self.assertEqual(said.read(), b"")

    def test_it_needs_a_child_that_is_kept(self):
        with self.assertRaisesRegex(cleanfork.SpawnError, "kept"):
            cleanfork.client().spawn("true", restart="always")
        with self.assertRaisesRegex(ValueError, "on-failure"):
            cleanfork.client().spawn("true", restart="often")


class RotatedFiles(unittest.TestCase):
    def test_output_goes_to_files_of_a_bounded_size(self):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "log")
            process = cleanfork.client().spawn(
                sys.executable, ["-c", "for i in range(1000): print('line %06d' % i)"],
                stdout=cleanfork.RotatedFile(path, size=4096, count=9))
            self.assertTrue(process.wait(PATIENCE))
            expected = b"".join(b"line %06d\n" % i for i in range(1000))
            names = [path + suffix for suffix in (".2", ".1", "")]

            def content():
                parts = []
                for name in names:
                    if os.path.exists(name):
                        with open(name, "rb") as file:
                            parts.append(file.read())
                return b"".join(parts)

            deadline = time.monotonic() + PATIENCE
            while content() != expected:
                self.assertLess(time.monotonic(), deadline, content())
                os.sched_yield()


if __name__ == "__main__":
    unittest.main()
