"""What `cleanfork spawn` says about the child, and where."""

import json
import os
import subprocess
import time
import unittest

from support import CLEANFORK, DEADLINE, CommandTest, read_line, state_of


class SharedStreams(CommandTest):
    def test_a_report_is_not_lost_on_a_full_pipe_that_the_child_made_non_blocking(self):
        reader, writer = os.pipe()
        self.addCleanup(os.close, reader)
        status, told = os.pipe()
        process = subprocess.Popen(
            [CLEANFORK, "spawn", "--json", "--json-status-fd", str(told), "/usr/bin/python3", "-S",
             "-c", """
import os
os.set_blocking(2, False)
try:
    while True:
        os.write(2, b"x" * 4096)
except BlockingIOError:
    pass
"""], env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=writer, pass_fds=[told])
        self.addCleanup(self.end, process)
        os.close(writer)
        os.close(told)
        with open(status, "rb", 0) as lines:
            self.assertIn("pid", read_line(lines))
            # The report on standard error comes after this one.
            self.assertIn("exit-code", read_line(lines))
        # Nobody reads until the command waits for room, or has given up its report and ended.
        deadline = time.monotonic() + DEADLINE
        while state_of(process.pid) not in "SZ" and time.monotonic() < deadline:
            os.sched_yield()
        with open(os.dup(reader), "rb") as stream:
            lines = stream.read().lstrip(b"x").splitlines()
        self.assertEqual(json.loads(lines[-1])["exit-code"], 0)
        self.assertEqual(process.wait(DEADLINE), 0)


class Json(CommandTest):
    def report(self, *args):
        """The last line of standard error as an object, and the lines before it."""
        done = self.spawn("--json", *args)
        *before, last = done.stderr.splitlines()
        return json.loads(last), before, done

    def test_the_result_is_the_last_line_of_standard_error(self):
        result, before, done = self.report("sh", "-c", "echo out; echo err >&2; exit 3")
        self.assertEqual((done.stdout, before, done.returncode), ("out\n", ["err"], 3))
        self.assertEqual(result["exit-code"], 3)
        self.assertEqual(result["child"], 1)
        self.assertGreater(result["pid"], 0)
        self.assertGreater(result["wall-seconds"], 0)
        self.assertGreater(result["usage"]["max-rss-kib"], 0)
        self.assertFalse(result["timed-out"])
        self.assertNotIn("signal", result)

    def test_a_signal_has_number_name_and_core_flag(self):
        result, _, _ = self.report("-q", "sh", "-c", "kill -KILL $$")
        self.assertEqual((result["signal"], result["signal-name"], result["core-dumped"]),
                         (9, "SIGKILL", False))
        self.assertNotIn("exit-code", result)

    def test_a_timeout_is_told_from_a_signal_of_somebody_else(self):
        result, _, _ = self.report("-q", "--timeout", "50ms", "sleep", "1000")
        self.assertTrue(result["timed-out"])

    def test_a_failure_has_step_errno_and_object(self):
        result, before, done = self.report("-C", "/no/such/directory", "true")
        self.assertEqual(done.returncode, 125)
        self.assertEqual(len(before), 1)
        self.assertEqual({k: result["error"][k] for k in ("step", "errno", "errno-name", "object")},
                         {"step": "chdir", "errno": 2, "errno-name": "ENOENT",
                          "object": "/no/such/directory"})
        self.assertEqual(before[0], "cleanfork: " + result["error"]["message"])

    def test_the_status_descriptor_gets_a_line_at_the_start_and_one_at_the_end(self):
        read_end, write_end = os.pipe()
        with open(read_end, encoding="utf-8") as reader:
            with open(write_end, "wb"):
                done = self.spawn("--json-status-fd", str(write_end), "sh", "-c",
                                  f"ls /proc/$$/fd/{write_end} 2>&1; exit 6",
                                  pass_fds=[write_end])
            start, end = map(json.loads, reader)
        self.assertEqual((done.returncode, done.stderr), (6, ""))
        self.assertIn("No such file", done.stdout)  # the child does not have it
        self.assertEqual(set(start), {"child", "pid"})
        self.assertEqual((end["pid"], end["exit-code"]), (start["pid"], 6))

    def test_bytes_that_are_no_text_do_not_break_it(self):
        result, _, _ = self.report("-C", os.fsdecode(b"/no/\xff\xfe"), "true")
        self.assertTrue(result["error"]["object"].startswith("/no/"))


class Verbose(CommandTest):
    def test_it_names_forkserver_child_times_and_usage(self):
        done = self.spawn("-v", "true")
        server, child, end = done.stderr.splitlines()
        self.assertRegex(server, r"^cleanfork: private forkserver, pid \d+, version \S+, in \S+ \w+$")
        self.assertRegex(child, r"^cleanfork: child 1, pid \d+, spawned in \S+ \w+$")
        self.assertRegex(end, r"^cleanfork: child 1 \(pid \d+\) exited 0, ran .*, user .*, system ")


if __name__ == "__main__":
    unittest.main()
