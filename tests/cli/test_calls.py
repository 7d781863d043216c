"""call: a template of the tests' own, against a real forkserver."""

import json
import os
import signal
import subprocess
import unittest

from support import CLEANFORK, DEADLINE, read_line, wait_for_end
from template_support import TemplateTest, sha256


class Calls(TemplateTest):
    def setUp(self):
        super().setUp()
        self.add()

    def test_the_result_goes_to_standard_output_and_the_status_is_the_entrys(self):
        self.assertEqual(self.answer("t", "echo", "--payload", "a\nb"), "a\nb")
        self.assertEqual(self.answer("t", "nothing"), "")
        self.assertEqual(self.call("t", "exit", "7").returncode, 7)

    def test_arguments_may_look_like_options_after_two_dashes(self):
        self.assertEqual(self.answer("t", "args", "one", "--payload", "", "two words"),
                         "one\ntwo words\n")
        self.assertEqual(self.answer("t", "args", "--", "-x", "--json", ""), "-x\n--json\n\n")

    def test_a_payload_comes_from_a_file_from_standard_input_and_from_proc(self):
        large = os.urandom(3_000_000)
        file = self.path("in", large)
        for payload in ("small", "x" * 40_000):
            self.assertEqual(self.answer("t", "echo", "--payload", payload), payload)
        self.assertEqual(self.digest("t", "echo", "--payload-file", file), sha256(large))
        self.assertEqual(self.digest("t", "echo", "--payload-file", "-", input=large),
                         sha256(large))
        with open(file, "rb") as standard_input:
            os.lseek(standard_input.fileno(), 2_999_990, os.SEEK_SET)
            self.assertEqual(self.digest("t", "echo", "--payload-file", "-", stdin=standard_input),
                             sha256(large[-10:]))
        with open("/proc/version", encoding="ascii") as version:
            self.assertEqual(self.answer("t", "echo", "--payload-file", "/proc/version"),
                             version.read())

    def test_an_empty_payload_file_is_an_empty_payload(self):
        self.assertEqual(self.answer("t", "echo", "--payload-file", self.path("empty", b"")), "")
        self.assertEqual(self.answer("t", "echo", "--payload-file", "-"), "")

    def test_a_result_file_is_replaced(self):
        out = self.path("out", b"something longer than the result")
        self.assertEqual(self.answer("t", "echo", "--payload", "short", "--result-file", out), "")
        with open(out, "rb") as result:
            self.assertEqual(result.read(), b"short")
        self.assertEqual(self.answer("t", "echo", "--payload", "x", "--result-file", "-"), "x")

    def test_a_result_that_cannot_be_written_is_an_error_but_hides_no_status(self):
        with open("/dev/full", "w", encoding="ascii") as full:
            for entry, code in ((("echo", "--payload", "x"), 125), (("exit", "3"), 3)):
                done = subprocess.run([CLEANFORK, "call", *self.at, "t", *entry],
                                      stdin=subprocess.DEVNULL, stdout=full,
                                      stderr=subprocess.PIPE, timeout=DEADLINE, check=False)
                self.assertEqual(done.returncode, code, done)

    def test_descriptors_are_passed_by_name_from_files_and_numbers(self):
        file = self.path("named", b"by name")
        self.assertEqual(self.answer("t", "cat", "--fd", f"x={file}", "x"), "by name")
        with open(file, "rb") as opened:
            fd = opened.fileno()
            self.assertEqual(self.answer("t", "cat", "x", "--fd", f"x={fd}", pass_fds=(fd,)),
                             "by name")

    def test_the_child_has_the_streams_and_what_is_named(self):
        file = self.path("named", b"")
        listed = self.answer("t", "fds", "--fd", f"x={file}", "--fd", "2:7")
        numbers = {int(line.split()[0]): line.split(" ", 1)[1] for line in listed.splitlines()}
        self.assertEqual(numbers.pop(3), file)
        self.assertIn(7, numbers)
        del numbers[7]
        (result,) = set(numbers) - {0, 1, 2}
        self.assertIn("cleanfork-result", numbers[result])

    def test_its_own_output_comes_before_the_result(self):
        self.assertEqual(self.answer("t", "write_stdout", "--payload", "p"), "cout p printf\n")

    def test_environment_and_directory_are_those_of_the_command_unless_given(self):
        environment = {**self.environment, "OF_THE_COMMAND": "1"}
        lines = self.answer("t", "env", "-E", "GIVEN=2", env=environment).splitlines()
        self.assertIn("OF_THE_COMMAND=1", lines)
        self.assertIn("GIVEN=2", lines)
        self.assertEqual(self.answer("t", "env", "-i", "-E", "A=b"), "A=b\n")
        self.assertEqual(self.answer("t", "cwd"), os.getcwd())
        self.assertEqual(self.answer("t", "cwd", "-C", "/usr"), "/usr")

    def test_the_text_of_an_exception_is_on_standard_error_once(self):
        done = self.call("t", "throw", "what it says")
        self.assertEqual((done.returncode, done.stdout), (70, ""))
        self.assertEqual(done.stderr.count("what it says"), 1, done.stderr)
        # Also when the child's own standard error is elsewhere.
        log = self.path("log")
        with open(log, "wb") as file:
            done = self.call("t", "throw", "what it says", "--fd", f"{file.fileno()}:2",
                             pass_fds=(file.fileno(),))
        self.assertIn("what it says", done.stderr)

    def test_the_report_as_json_has_exception_and_size_of_the_result(self):
        done = self.call("t", "throw", "reason", "--json")
        report = json.loads(done.stderr.splitlines()[-1])
        self.assertEqual((report["exit-code"], report["exception"], report["result-bytes"]),
                         (70, "reason", 0))
        report = json.loads(self.call("t", "echo", "--payload", "four", "--json").stderr)
        self.assertEqual((report["exit-code"], report["result-bytes"]), (0, 4))
        self.assertNotIn("exception", report)

    def test_an_entry_that_crashes_gives_128_and_the_signal(self):
        done = self.call("t", "crash")
        self.assertEqual(done.returncode, 128 + signal.SIGABRT)
        self.assertIn("SIGABRT", done.stderr)

    def test_what_is_unknown_is_127_and_named(self):
        for name, entry, why in (("t", "nope", "nope"), ("nobody", "echo", "nobody")):
            done = self.call(name, entry, "--json")
            self.assertEqual((done.returncode, done.stdout), (127, ""))
            self.assertIn(why, done.stderr.splitlines()[0])
            error = json.loads(done.stderr.splitlines()[-1])["error"]
            self.assertEqual((error["object"], error["errno-name"]), (why, "ENOENT"))

    def test_a_timeout_and_a_signal_end_it_like_a_program(self):
        self.assertEqual(self.call("--timeout", "50ms", "t", "sleep").returncode, 124)
        process = subprocess.Popen([CLEANFORK, "call", *self.at, "t", "sleep", "--json-status-fd",
                                    "2"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, bufsize=0, env=self.environment)
        process.stdin = None
        self.addCleanup(self.end, process)
        json.loads(read_line(process.stderr))
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(DEADLINE), -signal.SIGINT)

    def test_on_a_terminal_of_its_own(self):
        self.assertEqual(self.answer("-t", "t", "write_stdout", "--payload", "p"),
                         "cout p printf\n")

    def test_a_detached_call_lives_on_and_is_listed_with_its_template(self):
        child, pid = map(int, self.answer("-d", "t", "sleep").split())
        pidfd = os.pidfd_open(pid)
        (listed,) = json.loads(self.cleanfork("ps", "--json", *self.at).stdout)
        self.assertEqual((listed["child"], listed["template"], listed["running"]),
                         (child, "t", True))
        self.cleanfork("kill", *self.at, str(child))
        wait_for_end(pidfd)
        done = self.cleanfork("wait", *self.at, str(child))
        self.assertEqual(done.returncode, 128 + signal.SIGTERM)

    def test_the_status_of_a_detached_call_has_its_exception(self):
        child = self.answer("-d", "t", "throw", "too late").split()[0]
        done = self.cleanfork("wait", *self.at, child)
        self.assertEqual((done.returncode, done.stdout),
                         (70, f"{child} exited 70, by an exception: too late\n"))


if __name__ == "__main__":
    unittest.main()
