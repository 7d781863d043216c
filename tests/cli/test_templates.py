"""template: a template of the tests' own, against a real forkserver."""

import json
import os
import unittest

from support import CommandTest
from template_support import PROGRAM, TemplateTest


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

    def test_one_is_added_unless_it_is_there(self):
        self.assertNotIn("was there", self.add("t", "--if-absent"))
        self.assertRegex(self.add("t", "--if-absent"),
                         r"\At ready, was there, generation 1, pid \d+, ")
        self.assertEqual(self.told()["generation"], 1)
        self.assertRegex(self.add("t"), r"\At ready, generation 2, ")

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
