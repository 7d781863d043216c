"""The file of cleanforkd: checked, followed, and read again without touching a child."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import unittest

from support import CLEANFORK, DEADLINE, await_true, state_of
from template_support import PROGRAM, TemplateTest

DAEMON = os.path.join(os.path.dirname(CLEANFORK), "cleanforkd")


class Manager:
    """What a service manager hears."""

    def __init__(self, directory):
        self.path = os.path.join(directory, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(DEADLINE)

    def told(self):
        return dict(line.split("=", 1) for line in self.socket.recv(4096).decode().splitlines())


class ConfigTest(TemplateTest):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="cleanfork-test-")
        self.addCleanup(shutil.rmtree, self.directory)
        self.file = os.path.join(self.directory, "cleanforkd.toml")
        self.socket = os.path.join(self.directory, "socket")
        self.at = ("--socket", self.socket)

    def write(self, text):
        with open(self.file, "w", encoding="utf-8") as file:
            file.write(text)

    def check(self, text):
        self.write(text)
        return subprocess.run([DAEMON, "--check-config", self.file], capture_output=True,
                              text=True, timeout=DEADLINE, check=False)

    def begin(self, text, *options, **variables):
        """A daemon with the file; its log goes to a file."""
        self.write(text)
        manager = Manager(self.directory)
        self.addCleanup(manager.socket.close)
        self.log_path = os.path.join(self.directory, "log")
        with open(self.log_path, "wb") as log:
            self.daemon = subprocess.Popen(
                [DAEMON, "--config", self.file, *self.at, *options], stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=log,
                env={**os.environ, "NOTIFY_SOCKET": manager.path, **variables})
        self.addCleanup(self.end)
        self.assertEqual(manager.told()["READY"], "1")
        self.manager = manager

    def end(self):
        if self.daemon.poll() is None:
            self.daemon.send_signal(signal.SIGCONT)
            self.daemon.terminate()
        self.assertEqual(self.daemon.wait(DEADLINE), 0, self.log())

    def log(self):
        with open(self.log_path, encoding="utf-8") as log:
            return log.read()

    def reload(self, text=None):
        """Back when the daemon has done with it."""
        if text is not None:
            self.write(text)
        self.daemon.send_signal(signal.SIGHUP)
        told = self.manager.told()
        self.assertEqual(told["RELOADING"], "1")
        self.assertRegex(told["MONOTONIC_USEC"], r"\A\d+\Z")
        self.assertEqual(self.manager.told()["READY"], "1")

    def templates(self):
        listed = json.loads(self.template("list", "--json").stdout)
        return {t["name"]: t["generation"] for t in listed}

    def await_ready(self, **generations):
        await_true(lambda: self.templates() == generations)

    def child(self, *options):
        done = self.cleanfork("spawn", "-d", *self.at, *options, "sleep", "1000")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        child, pid = map(int, done.stdout.split())
        self.addCleanup(self.cleanfork, "kill", "-9", *self.at, str(child))
        return pid


def template(name, **keys):
    return f"[template.{name}]\nprogram = \"{PROGRAM}\"\n" + "".join(
        f"{key.replace('_', '-')} = {value}\n" for key, value in keys.items())


class Checked(ConfigTest):
    def test_a_good_file_is_said_to_be_good(self):
        done = self.check("max-children = 5\n" + template("t"))
        self.assertEqual((done.returncode, done.stdout, done.stderr),
                         (0, f"{self.file}: no error, 1 templates\n", ""))

    def test_each_error_is_a_line_with_its_place(self):
        done = self.check("max-childs = 5\n\n[template.t]\nwarm = -1\n")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertEqual(done.stderr.splitlines(), [
            f"{self.file}:1:1: unknown key \"max-childs\"; did you mean \"max-children\"?",
            f"{self.file}:4:8: this is to be a number from 0 to 4096"])

    def test_a_file_that_is_not_there_or_may_not_be_read_is_an_error(self):
        done = subprocess.run([DAEMON, "--check-config", self.file], capture_output=True,
                              text=True, timeout=DEADLINE, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn("ENOENT", done.stderr)

    def test_a_daemon_does_not_start_with_a_wrong_file(self):
        self.write("nonsense\n")
        done = subprocess.run([DAEMON, "--config", self.file, *self.at], capture_output=True,
                              text=True, timeout=DEADLINE, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertTrue(done.stderr.startswith(f"cleanforkd: {self.file}:1:"), done.stderr)
        self.assertFalse(os.path.exists(self.socket))

    def test_a_private_forkserver_has_no_file(self):
        done = subprocess.run([DAEMON, "--config", self.file, "--private-fd", "3"],
                              capture_output=True, text=True, timeout=DEADLINE, check=False)
        self.assertEqual(done.returncode, 2)


class Followed(ConfigTest):
    def test_the_socket_and_a_quota_are_those_of_the_file(self):
        other = os.path.join(self.directory, "other")
        self.at = ()
        self.begin(f"socket = \"{other}\"\nmax-children = 1\nlog-level = \"debug\"\n")
        self.at = ("--socket", other)
        self.child()
        self.assertIn("config_loaded", self.log())
        self.assertIn("level=debug", self.log())

    def test_the_command_line_wins_also_after_a_reload(self):
        self.begin("max-sessions = 1\n", "--max-sessions", "50")
        self.reload()
        with subprocess.Popen([CLEANFORK, "spawn", *self.at, "cat"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE) as first:
            first.stdin.write(b"x")
            first.stdin.flush()
            self.assertEqual(first.stdout.read(1), b"x")
            self.assertEqual(self.cleanfork("ps", *self.at).returncode, 0)
            first.stdin.close()

    def test_a_credential_is_the_file_when_no_other_is_named(self):
        self.write("max-sessions = 0\n")
        done = subprocess.run([DAEMON, *self.at], capture_output=True, text=True,
                              timeout=DEADLINE, check=False,
                              env={**os.environ, "CREDENTIALS_DIRECTORY": self.directory})
        self.assertEqual(done.returncode, 1)
        self.assertIn(f"{self.file}:1:16: this is to be a number from 1", done.stderr)

    def test_templates_are_started_with_what_the_file_says(self):
        self.begin(template("t", warm=2, setenv="{TEMPLATE_WORD = \"here\"}", rlimit="{msgqueue = \"7:70\"}")
                   + "[template.derived]\nfrom = \"t\"\ninit = \"extend\"\n"
                     "args = [\"word\"]\n")
        self.await_ready(t=1, derived=1)
        self.assertEqual(self.told("t")["warm-wanted"], 2)
        self.assertEqual(self.told("derived")["from"], "t")
        pid = self.told("t")["generations"][0]["pid"]
        with open(f"/proc/{pid}/environ", encoding="utf-8") as environ:
            variables = environ.read().split("\0")
        self.assertIn("TEMPLATE_WORD=here", variables)
        self.assertFalse([v for v in variables if v.startswith("NOTIFY_SOCKET=")])
        with open(f"/proc/{pid}/limits", encoding="utf-8") as limits:
            self.assertRegex(limits.read(), r"msgqueue size +7 +70 ")
        self.assertEqual(self.call("t", "nothing").returncode, 0)

    def test_one_that_does_not_start_is_told_and_harms_nobody(self):
        self.begin("[template.bad]\nprogram = \"/no/such/program\"\n" + template("t"))
        self.await_ready(bad=0, t=1)
        self.assertEqual(self.told("bad")["state"], "failed")
        self.assertEqual(self.call("t", "nothing").returncode, 0)


class Reloaded(ConfigTest):
    def test_what_changed_is_changed_and_no_child_is_touched(self):
        self.begin(template("same") + template("changed") + template("gone"))
        self.await_ready(same=1, changed=1, gone=1)
        pids = [self.child(), self.child()]
        self.reload("max-children = 2\nlog-level = \"error\"\n" + template("same")
                    + template("changed", warm=1) + template("new"))
        self.await_ready(same=1, changed=2, new=1)
        self.assertEqual([state_of(pid) for pid in pids], ["S", "S"])
        self.assertEqual(self.told("changed")["warm-wanted"], 1)
        before = self.log()
        self.assertEqual(self.call("same", "nothing").returncode, 0)
        self.assertEqual(self.log(), before, "nothing is logged below an error")

    def test_a_quota_holds_for_what_is_asked_from_then_on(self):
        self.begin("")
        holder = subprocess.Popen([CLEANFORK, "spawn", *self.at, "cat"], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, bufsize=0)
        self.addCleanup(holder.stdout.close)
        self.addCleanup(holder.wait)
        self.addCleanup(holder.stdin.close)
        holder.stdin.write(b"x")
        self.assertEqual(holder.stdout.read(1), b"x")
        self.reload("max-sessions = 1\n")
        refused = self.cleanfork("ps", *self.at)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("at most 1 sessions", refused.stderr)
        holder.stdin.write(b"y")
        self.assertEqual(holder.stdout.read(1), b"y")
        self.reload("")
        self.assertEqual(self.cleanfork("ps", *self.at).returncode, 0)

    def test_a_wrong_file_is_told_with_its_line_and_changes_nothing(self):
        self.begin("max-sessions = 40\n" + template("t"))
        self.await_ready(t=1)
        pid = self.child()
        for text in ("max-sessions = 1\n[template.t]\nwarn = 5\n", "[[[\n", "\0"):
            self.reload(text)
            self.assertRegex(self.log().splitlines()[-1],
                             r"level=error event=config_refused .*" + re.escape(self.file)
                             + r":\d+:\d+: ")
            self.assertEqual(self.templates(), {"t": 1})
        os.unlink(self.file)
        self.reload()
        self.assertIn("ENOENT", self.log().splitlines()[-1])
        self.assertEqual((state_of(pid), self.templates()), ("S", {"t": 1}))

    def test_a_fifo_in_place_of_the_file_keeps_nobody_waiting(self):
        self.begin("")
        os.unlink(self.file)
        os.mkfifo(self.file)
        self.reload()
        self.assertIn("it is no regular file", self.log())

    def test_what_cannot_change_is_told(self):
        self.begin("")
        self.at = ()
        self.reload(f"socket = \"{self.directory}/other\"\n")
        # The command line has named the socket: it wins, and nothing is different.
        self.assertNotIn("config_needs_restart", self.log())

    def test_a_template_that_a_client_removed_is_started_again(self):
        self.begin(template("t"))
        self.await_ready(t=1)
        self.assertEqual(self.template("remove", "t").returncode, 0)
        self.reload()
        self.await_ready(t=1)


class AtAnotherSocket(ConfigTest):
    def test_a_new_socket_is_told_to_need_a_restart(self):
        first = os.path.join(self.directory, "first")
        self.at = ()
        self.begin(f"socket = \"{first}\"\n")
        self.reload(f"socket = \"{self.directory}/second\"\n")
        self.assertRegex(self.log(), r"event=config_needs_restart .* key=socket")
        self.assertEqual(self.cleanfork("ps", "--socket", first).returncode, 0)


if __name__ == "__main__":
    unittest.main()
