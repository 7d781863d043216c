"""events: what is told of what really happened, to readers quick, slow and gone."""

import json
import os
import select
import signal
import subprocess

from support import CLEANFORK, DEADLINE, CommandTest, Server, await_true, read_line
from template_support import PROGRAM

PYTHON = [os.path.join(os.path.dirname(os.path.dirname(CLEANFORK)), "python")]


class EventsTest(CommandTest):
    def setUp(self):
        self.server = self.serve()
        self.at = ("--socket", self.server.socket)

    def follow(self, *options):
        process = subprocess.Popen([CLEANFORK, "events", "--follow", "--json", *self.at, *options],
                                   bufsize=0, env=self.environment, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(self.end_of, process)
        # What is told of this one shows that it follows.
        while True:
            self.cleanfork("ps", *self.at)
            if select.select([process.stdout], [], [], 0.1)[0]:
                return process

    @staticmethod
    def end_of(process):
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()

    def next(self, process, name):
        """The next event of that name."""
        while True:
            event = json.loads(read_line(process.stdout))
            if event["event"] == name:
                return event

    def kept(self):
        done = self.cleanfork("events", "--json", *self.at)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return [json.loads(line) for line in done.stdout.splitlines()]


class Followed(EventsTest):
    def test_a_child_is_told_when_it_begins_and_how_it_ended(self):
        process = self.follow()
        self.spawn(*self.at, "sh", "-c", "exit 7")
        begun = self.next(process, "spawned")
        self.assertEqual((begun["kind"], begun["command"]), ("exec", "sh -c exit 7"))
        ended = self.next(process, "exited")
        self.assertEqual((ended["child"], ended["pid"]), (begun["child"], begun["pid"]))
        self.assertEqual((ended["how"], ended["number"]), ("exit", 7))
        self.assertGreater(ended["wall_ns"], 0)
        self.spawn(*self.at, "sh", "-c", "kill -TERM $$")
        ended = self.next(process, "exited")
        self.assertEqual((ended["how"], ended["number"]), ("signal", signal.SIGTERM))

    def test_whose_trace_a_child_belongs_to(self):
        parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        process = self.follow()
        environment = {**self.environment, "TRACEPARENT": parent}
        self.assertEqual(self.output(*self.at, "printenv", "TRACEPARENT", env=environment),
                         parent + "\n")
        self.assertEqual(self.next(process, "spawned")["traceparent"], parent)
        self.assertEqual(self.next(process, "exited")["traceparent"], parent)
        other = parent[:-1] + "0"
        for option, expected in (("--setenv=TRACEPARENT=" + other, other),
                                 ("--setenv=TRACEPARENT=secret", ""),
                                 ("--unset=TRACEPARENT", ""), ("--ignore-environment", "")):
            with self.subTest(option):
                self.spawn(*self.at, option, "/bin/true", env=environment)
                self.assertEqual(self.next(process, "spawned")["traceparent"], expected)

    def test_a_request_that_fails_is_told_with_its_reason(self):
        process = self.follow()
        self.spawn(*self.at, "/no/such/program")
        self.assertIn("/no/such/program", self.next(process, "spawn_failed")["why"])

    def test_the_states_of_a_template(self):
        process = self.follow()
        for command in (["add", *self.at, "t", "--warm", "1", "--", PROGRAM],
                        ["reload", *self.at, "t"], ["remove", *self.at, "t"]):
            done = self.cleanfork("template", *command)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(self.next(process, "template_starting")["generation"], 1)
        self.assertEqual(self.next(process, "template_ready")["template"], "t")
        self.assertEqual(self.next(process, "template_starting")["generation"], 2)
        self.assertEqual(self.next(process, "template_ready")["generation"], 2)
        self.assertEqual(self.next(process, "template_draining")["generation"], 1)
        self.assertEqual(self.next(process, "template_removed")["template"], "t")

    def test_a_call_is_told_with_its_template(self):
        done = self.cleanfork("template", "add", *self.at, "t", "--", PROGRAM)
        self.assertEqual(done.returncode, 0, done)
        process = self.follow()
        self.assertEqual(self.cleanfork("call", *self.at, "t", "nothing").returncode, 0)
        begun = self.next(process, "spawned")
        self.assertEqual((begun["kind"], begun["template"]), ("call", "t"))
        self.assertEqual(self.next(process, "exited")["number"], 0)

    def test_a_reader_that_sleeps_is_told_how_much_it_has_missed(self):
        if not os.path.isdir(PYTHON[0]):
            self.skipTest("the Python package is not built under a sanitizer")
        process = self.follow()
        process.send_signal(signal.SIGSTOP)
        many = 6_000
        self.run_many(many)
        process.send_signal(signal.SIGCONT)
        told, dropped = 0, 0
        while told + dropped < 2 * many:
            event = json.loads(read_line(process.stdout))
            told += event["event"] in ("spawned", "exited")
            dropped += event["count"] if event["event"] == "events_dropped" else 0
        self.assertGreater(dropped, 0)
        self.assertGreater(told, 1000)

    def run_many(self, count):
        """That many children, through one session."""
        program = (f"import sys; sys.path[:0] = {PYTHON!r}\n"
                   "import cleanfork\n"
                   f"c = cleanfork.connect({self.server.socket!r})\n"
                   f"for _ in range({count} // 50):\n"
                   "    for p in [c.spawn('true') for _ in range(50)]: p.wait()\n")
        done = subprocess.run(["/usr/bin/python3", "-c", program], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=4 * DEADLINE, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_a_reader_that_goes_away_ends_it(self):
        process = self.follow()
        process.stdout.close()
        self.spawn(*self.at, "true")
        process.wait(DEADLINE)
        self.assertEqual(self.spawn(*self.at, "true").returncode, 0)
        process.stdout = open(os.devnull)

    def test_it_ends_with_the_forkserver_and_says_so(self):
        process = self.follow()
        self.server.process.terminate()
        self.assertNotEqual(process.wait(DEADLINE), 0)
        self.assertIn(b"forkserver", process.stderr.read())


class Kept(EventsTest):
    """What a log of the level info has."""

    def setUp(self):
        self.server = Server("--log-level", "info", log=subprocess.DEVNULL)
        self.addCleanup(self.server.close)
        self.at = ("--socket", self.server.socket)

    def test_what_was_before_is_of_the_level_info_and_above(self):
        self.spawn(*self.at, "true")
        names = {event["event"] for event in self.kept()}
        self.assertIn("session_began", names)
        self.assertIn("session_ended", names)
        self.assertNotIn("spawned", names)

    def test_text_has_the_same(self):
        done = self.cleanfork("events", *self.at)
        self.assertRegex(done.stdout.splitlines()[-1],
                         r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z session_began session=\d+ peer_pid=\d+$")

    def test_without_readers_debug_lines_cost_nothing(self):
        process = self.follow()
        process.kill()
        process.wait()
        await_true(lambda: self.kept()[-1]["event"] == "session_began")
        self.spawn(*self.at, "true")
        self.assertNotIn("spawned", {event["event"] for event in self.kept()[-3:]})
