"""Completions by real shells: options, commands, templates and children of a running forkserver."""

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import time
import unittest

from support import CLEANFORK, DEADLINE
from template_support import TemplateTest

TREE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
FILES = os.path.abspath(os.path.join(TREE, "client/packaging/completions"))


class Shell:
    """An interactive shell on a terminal of its own."""

    def __init__(self, words, environment):
        self.output = b""
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execvpe(words[0], words, environment)

    def type(self, text):
        os.write(self.terminal, text.encode())

    def await_text(self, pattern):
        """What it shows until there is a match of `pattern`."""
        deadline = time.monotonic() + DEADLINE
        while not (found := re.search(pattern, self.text())):
            left = deadline - time.monotonic()
            if left < 0 or not select.select([self.terminal], [], [], left)[0]:
                raise AssertionError(f"no {pattern!r} in {self.text()!r}")
            self.output += os.read(self.terminal, 4096)
        return found

    def text(self):
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b[=>]|\r|\x07", "",
                      self.output.decode("utf-8", "replace"))

    def close(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.terminal)


class CompletionTest(TemplateTest):
    shell = None

    def setUp(self):
        if not shutil.which(self.shell):
            self.skipTest(f"there is no {self.shell} here")
        super().setUp()
        self.shell_environment = {
            "PATH": os.path.dirname(CLEANFORK) + ":" + os.environ["PATH"], "HOME": self.home,
            "TERM": "dumb", "LC_ALL": "C.UTF-8", "CLEANFORK_SOCKET": self.server.socket}

    def completes(self, typed, expected):
        raise NotImplementedError

    def test_commands_and_options_are_completed(self):
        self.completes("cleanfork shut", "shutdown")
        self.completes("cleanfork template rem", "remove")
        self.completes("cleanfork spawn --die", "--die-with-parent")
        self.completes("cleanfork template add t --toler", "--tolerate-unclean")
        self.completes("cleanfork spawn --identity forks", "forkserver")

    def test_templates_and_children_of_the_forkserver_are_completed(self):
        self.add("thumbnails")
        self.completes("cleanfork template show thu", "thumbnails")
        self.completes("cleanfork call --payload x thu", "thumbnails")
        self.completes("cleanfork template add t --from thu", "thumbnails")
        child = self.cleanfork("spawn", *self.at, "-d", "sleep", "1000").stdout.split()[0]
        self.addCleanup(self.cleanfork, "kill", "-9", *self.at, child)
        self.completes("cleanfork kill ", child)
        self.completes("cleanfork wait --timeout 5 ", child)

    def test_where_there_is_no_forkserver_nothing_is_said(self):
        self.shell_environment["CLEANFORK_SOCKET"] = self.home + "/none"
        self.says_nothing("cleanfork template show thu")
        self.says_nothing("cleanfork kill ")


class Interactive(CompletionTest):
    """One that shows the completed line."""

    def begin(self):
        shell = Shell(self.command, self.shell_environment)
        self.addCleanup(shell.close)
        for line in self.setup:
            shell.type(line + "\n")
        shell.type("echo be''gun\n")
        # With its prompt: what is typed before that is shown by the terminal, as it is.
        shell.await_text(r"\nbegun\n[\s\S]*> ")
        return shell

    def completes(self, typed, expected):
        shell = self.begin()
        before = typed[:typed.rindex(" ") + 1]
        # What is completed gets a blank, which zsh takes back and gives again, and so a mark of ours
        # is a word of its own.
        shell.type(f"{typed}\tMARK")
        shell.await_text(re.escape(before + expected) + r"[ \x08]+MARK")

    def says_nothing(self, typed):
        shell = self.begin()
        shell.type(f"{typed}\tMARK")
        shell.await_text(re.escape(f"{typed}MARK"))


class Bash(Interactive):
    shell = "bash"
    command = ["bash", "--norc", "--noprofile", "-i"]
    setup = ["PS1='> '", "bind 'set bell-style none'", f". {FILES}/cleanfork.bash"]


class Zsh(Interactive):
    shell = "zsh"
    command = ["zsh", "-f", "-i"]
    setup = ["PS1='> '", f"fpath=({FILES} $fpath)",
             "autoload -U compinit; compinit -u -D", "unsetopt auto_menu list_ambiguous beep"]


class Fish(CompletionTest):
    shell = "fish"

    def told(self, typed):
        done = subprocess.run(
            ["fish", "--no-config", "-c", f"source {FILES}/cleanfork.fish; complete -C $argv[1]",
             typed], env=self.shell_environment, capture_output=True, text=True, timeout=DEADLINE,
            check=True)
        self.assertEqual(done.stderr, "")
        return [line.split("\t")[0] for line in done.stdout.splitlines()]

    def completes(self, typed, expected):
        self.assertEqual(self.told(typed), [expected])

    def says_nothing(self, typed):
        self.assertEqual(self.told(typed), [])


del CompletionTest, Interactive  # there is one of each shell

if __name__ == "__main__":
    unittest.main()
