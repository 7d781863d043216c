"""template and call: a template of the tests' own, against a real forkserver."""

import hashlib
import json
import os
import signal
import subprocess
import unittest

from support import CLEANFORK, DEADLINE, CommandTest, read_line, wait_for_end

HELPERS = os.environ.get("CLEANFORK_TEST_HELPERS", os.path.dirname(CLEANFORK) + "/test-helpers")
PROGRAM = os.path.join(HELPERS, "template_program")


def sha256(content):
    return hashlib.sha256(content).hexdigest()


class TemplateTest(CommandTest):
    def setUp(self):
        self.server = self.serve()
        self.at = ("--socket", self.server.socket)

    def template(self, command, *args, **options):
        return self.cleanfork("template", command, *self.at, *args, **options)

    def add(self, name="t", *options, program=PROGRAM, args=()):
        done = self.template("add", name, *options, "--", program, *args)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done)
        return done.stdout

    def call(self, *args, **options):
        return self.cleanfork("call", *self.at, *args, **options)

    def answer(self, *args, **options):
        """The result of a call that has to succeed and to say nothing itself."""
        done = self.call(*args, **options)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done)
        return done.stdout

    def digest(self, *args, **options):
        """The same, of a result that is no text."""
        done = self.call(*args, encoding=None, errors=None, **options)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        return sha256(done.stdout)

    def told(self, name="t"):
        done = self.template("show", "--json", name)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return json.loads(done.stdout)

    def path(self, name, content=None):
        path = os.path.join(self.home, f"{self.id()}-{name}")
        if content is not None:
            with open(path, "wb") as file:
                file.write(content)
        return path


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
        self.assertEqual(process.wait(DEADLINE), 128 + signal.SIGINT)

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


class Templates(TemplateTest):
    def test_a_template_is_added_listed_shown_and_removed(self):
        self.assertRegex(self.add("t", "--warm", "2"), r"\At ready, generation 1, pid \d+, ")
        self.add("other")
        told = self.told()
        self.assertEqual((told["name"], told["state"], told["generation"], told["warm-wanted"]),
                         ("t", "ready", 1, 2))
        self.assertEqual(told["command"], PROGRAM)
        (generation,) = told["generations"]
        self.assertEqual((generation["state"], generation["threads"]), ("ready", 1))
        self.assertGreater(generation["memory"]["rss-kib"], generation["memory"]["pss-kib"])
        listed = json.loads(self.template("list", "--json").stdout)
        self.assertEqual([t["name"] for t in listed], ["other", "t"])
        heading, *rows = self.template("list").stdout.splitlines()
        self.assertEqual(heading.split(), ["NAME", "STATE", "GEN", "PID", "WARM", "CHILDREN",
                                           "THREADS", "RSS", "PSS", "AGE", "COMMAND"])
        self.assertRegex(rows[1], rf"^t +ready +1 +{generation['pid']} +\d/2 +0 +1 +\d+[KM] +\d+[KM]"
                                  rf" +\d+s +{PROGRAM}$")
        done = self.template("remove", "t")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        self.assertEqual([t["name"] for t in json.loads(self.template("list", "--json").stdout)],
                         ["other"])
        self.assertEqual(self.call("t", "nothing").returncode, 127)

    def test_warm_children_are_shown_with_their_memory(self):
        self.add("t", "--warm", "2")
        # Forked when the forkserver is idle: each question gives it a chance to.
        for _ in range(1000):
            (generation,) = self.told()["generations"]
            if len(generation["warm-pids"]) == 2:
                break
        self.assertEqual(len(generation["warm-pids"]), 2)
        self.assertGreater(generation["warm-memory"]["rss-kib"], 0)
        self.assertIn("warm children: 2", self.template("show", "t").stdout)

    def test_show_is_a_line_for_each_thing(self):
        self.add()
        shown = self.template("show", "t").stdout
        for line in ("name: t", "state: ready", "generation: 1", "generation 1:", "  threads: 1"):
            self.assertIn(line + "\n", shown)
        self.assertRegex(shown, r"(?m)^  memory: \d+[KM] resident, \d+[KM] proportional, ")

    def test_options_and_arguments_are_those_of_the_templates_process(self):
        self.add("t", "-E", "OF_THE_TEMPLATE=1", "--nice", "3", args=("--loud", "x"))
        told = self.told()
        self.assertEqual(told["command"], f"{PROGRAM} --loud x")
        pid = told["generations"][0]["pid"]
        self.assertEqual(os.getpriority(os.PRIO_PROCESS, pid), 3)
        # A call has the environment of its own caller.
        self.assertNotIn("OF_THE_TEMPLATE=1", self.answer("t", "env").splitlines())

    def test_huge_pages_are_a_tunable_of_its_c_library(self):
        self.add("t", "--huge-pages", "-E", "GLIBC_TUNABLES=glibc.malloc.arena_max=1")
        pid = self.told()["generations"][0]["pid"]
        with open(f"/proc/{pid}/environ", "rb") as environ:
            # The C library cuts its own copy of the variable into pieces.
            self.assertIn(b"GLIBC_TUNABLES=glibc.malloc.arena_max=1:glibc.malloc.hugetlb=1:",
                          environ.read().replace(b"\0", b":"))

    def test_one_that_is_not_clean_is_refused_with_the_reason(self):
        for what, why in (("thread", "1 extra thread"), ("socket", "socket"), ("epoll", "epoll")):
            with self.subTest(what):
                done = self.template("add", what, "-E", f"TEMPLATE_INIT={what}", "--", PROGRAM)
                self.assertEqual((done.returncode, done.stdout), (1, ""))
                self.assertIn(why, done.stderr)
                told = self.told(what)
                self.assertEqual((told["state"], told["last-error"]["step"]), ("refused", "clean"))
                self.assertIn(why, self.call(what, "nothing").stderr)
                self.assertRegex(self.template("show", what).stdout, rf"(?m)^last error: .*{why}")

    def test_one_that_is_unclean_can_be_tolerated(self):
        done = self.template("add", "t", "--tolerate-unclean", "-E", "TEMPLATE_INIT=socket", "--",
                             PROGRAM)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("unclean: ", done.stdout)
        self.assertIn("socket", self.told()["generations"][0]["unclean"])
        self.assertEqual(self.call("t", "exit", "4").returncode, 4)

    def test_one_that_fails_tells_why_and_what_it_wrote(self):
        done = self.template("add", "t", "-E", "TEMPLATE_INIT=throw", "--", PROGRAM)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("the initialization failed as it was told", done.stderr)
        self.assertEqual(self.told()["state"], "failed")
        done = self.template("add", "noisy", "--json", "-E", "TEMPLATE_INIT=noise", "--", PROGRAM)
        self.assertEqual(done.returncode, 1)
        self.assertIn("a word before the end", done.stderr)
        self.assertIn("a word before the end", json.loads(done.stdout)["stderr-tail"])
        self.assertIn("    a word before the end\n", self.template("show", "noisy").stdout)

    def test_one_that_hangs_is_given_up_after_its_own_timeout(self):
        done = self.template("add", "t", "--start-timeout", "200ms", "-E", "TEMPLATE_INIT=hang",
                             "--", PROGRAM)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(self.told()["state"], "failed")

    def test_a_program_that_is_no_template_or_does_not_exist_fails(self):
        for program in ("/bin/true", "/no/such/program"):
            done = self.template("add", "t", "--", program)
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)

    def test_a_call_waits_for_a_template_that_is_starting(self):
        done = self.template("add", "t", "--no-wait", "-E", "TEMPLATE_TOUCH_MIB=64", "--", PROGRAM)
        self.assertRegex(done.stdout, r"\At (starting|ready)")
        self.assertEqual(self.call("t", "exit", "5").returncode, 5)

    def test_reload_starts_the_next_generation_from_the_same(self):
        self.add()
        before = self.told()["generations"][0]["pid"]
        done = self.template("reload", "t")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(done.stdout, r"\At ready, generation 2, ")
        told = self.told()
        self.assertEqual(told["generation"], 2)
        self.assertNotEqual(told["generations"][0]["pid"], before)
        self.assertEqual(self.template("reload", "t", "--no-wait").returncode, 0)

    def test_a_derived_template_runs_an_initializer_of_its_base(self):
        self.add("base")
        file = self.path("extension", b"from a file")
        done = self.template("add", "derived", "--from", "base", "--init", "extend",
                             "--payload-file", file)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done)
        self.assertIn("extension from a file\n", self.answer("derived", "state"))
        self.assertIn("extension none\n", self.answer("base", "state"))
        self.assertEqual(self.told("derived")["from"], "base")
        done = self.template("add", "failed", "--from", "base", "--init", "extend",
                             "--payload-file", "-", input="throw")
        self.assertEqual(done.returncode, 1)
        self.assertIn("the extension failed", done.stderr)

    def test_an_audit_takes_the_name_of_a_template(self):
        self.add("t", "--tolerate-unclean", "-E", "TEMPLATE_INIT=thread")
        pid = self.told()["generations"][0]["pid"]
        done = self.cleanfork("audit", *self.at, "t")
        self.assertEqual(done.returncode, 1)
        self.assertTrue(done.stdout.startswith(f"PID {pid} "), done.stdout)
        self.assertRegex(done.stdout, r"(?m)^  thread ")

    def test_an_audit_of_a_ready_template_with_children_finds_nothing(self):
        self.add("t", "--warm", "2")
        self.assertEqual(self.cleanfork("call", *self.at, "t", "nothing").returncode, 0)
        done = self.cleanfork("audit", *self.at, "t")
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        self.assertIn("safe to fork from", done.stdout)


class WithoutForkserver(CommandTest):
    def test_every_command_says_how_to_start_one(self):
        for args, code in ((("call", "t", "e"), 125), (("template", "add", "t", "--", "x"), 1),
                           (("template", "list"), 1), (("template", "show", "t"), 1),
                           (("template", "reload", "t"), 1), (("template", "remove", "t"), 1)):
            with self.subTest(args):
                done = self.cleanfork(*args)
                self.assertEqual((done.returncode, done.stdout), (code, ""))
                self.assertIn("start one with `cleanfork serve`", done.stderr)

    def test_wrong_usage_is_one_line(self):
        for args, why in ((("call",), "TEMPLATE is required"),
                          (("call", "t"), "ENTRY is required"),
                          (("call", "t", "e", "--nonsense"), "--nonsense"),
                          (("call", "t", "e", "--payload", "a", "--payload-file", "b"), "both"),
                          (("call", "t", "e", "-d", "--result-file", "f"), "--detach"),
                          (("call", "t", "e", "--fd", "x=99"), "99 is not open"),
                          (("call", "t", "e", "--fd", "x=0", "--fd", "x=1"), "twice"),
                          (("call", "t", "e", "--fd", "=5"), "NAME=FD"),
                          (("call", "t", "e", "--fd", "x=/no/such/file"), "/no/such/file"),
                          (("call", "t", "e", "--payload-file", "/no/such/file"), "/no/such/file"),
                          (("call", "t", "e", "--result-file", "/no/such/file"), "/no/such/file"),
                          (("template",), "a command is missing"),
                          (("template", "nonsense"), "unknown command nonsense"),
                          (("template", "add"), "NAME is required"),
                          (("template", "add", "t"), "PROGRAM is missing"),
                          (("template", "add", "t", "--nonsense", "x"), "--nonsense"),
                          (("template", "add", "t", "--warm", "4097", "x"), "4096"),
                          (("template", "add", "t", "--from", "b"), "--init"),
                          (("template", "add", "t", "--init", "e", "x"), "--from"),
                          (("template", "add", "t", "--fd", "a=0", "x"), "--from"),
                          (("template", "add", "t", "--from", "b", "--init", "e", "--huge-pages"),
                           "--huge-pages"),
                          (("template", "show"), "NAME is required")):
            with self.subTest(args):
                done = self.cleanfork(*args)
                self.assertIn(done.returncode, (2, 125))
                self.assertEqual((done.stdout, done.stderr.count("\n")), ("", 1), done.stderr)
                self.assertIn(why, done.stderr)

    def test_help_of_each_subcommand(self):
        for args in (("call",), ("template",), ("template", "add"), ("template", "list"),
                     ("template", "show"), ("template", "reload"), ("template", "remove")):
            done = self.cleanfork(*args, "--help")
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertTrue(done.stdout.startswith("Usage: cleanfork " + " ".join(args)))
            self.assertIn("Examples:", done.stdout)


if __name__ == "__main__":
    unittest.main()
