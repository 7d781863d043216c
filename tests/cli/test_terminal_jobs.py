"""`cleanfork spawn` as a job of a real shell: what the bare command does there is what is right.

Each scene is played twice by an interactive bash on a terminal, with the bare command and with
`cleanfork spawn` before it, and both are told in the same words.
"""

import os
import re
import signal
import unittest

from support import CLEANFORK, DEADLINE, await_state, state_of, wait_for_end
from terminal_support import PtyTest

SHELL = ["/bin/bash", "--norc", "--noprofile", "--noediting", "-i"]
WRAPPED = f"{CLEANFORK} spawn --private -q --"
# Names the signals it gets, a line each.
LISTENER = "bash -c 'for s in HUP INT QUIT TERM USR1 CONT WINCH; do trap \"echo got:$s\" $s; done; " \
           "echo ready:$$; while :; do sleep 0.02; done'"


class Scene:
    """An interactive shell whose words are waited for."""

    def __init__(self, terminal, wrapper):
        self.terminal, self.wrapper = terminal, wrapper
        self.prompt()

    def prompt(self):
        """Has the shell ask for lines with a word that is nowhere in what is typed."""
        self.run("PS1='$((6*7))ready> '")
        self.await_prompt()

    def await_prompt(self):
        self.terminal.await_match(rb"42ready> ")

    def run(self, line):
        """A line for the shell, in which WRAP stands for what is tried."""
        self.terminal.type((line.replace("WRAP", self.wrapper) + "\n").encode())

    def key(self, key):
        self.terminal.type(key)

    def await_pid(self, word="ready"):
        return int(self.terminal.await_match(rb"%s:(\d+)" % word.encode())[1])

    def await_text(self, text):
        self.terminal.await_match(re.escape(text.encode()))

    def status(self):
        """Of the last command, once the shell takes lines again: a key takes away what was typed
        ahead of it, and what comes after it too soon."""
        self.await_prompt()
        self.run("echo \"the status is:$?\"")
        return int(self.terminal.await_match(rb"the status is:(\d+)")[1])

    def await_job(self, state):
        """The shell tells of the state of a job before a prompt: it is made to prompt."""
        for _ in range(10_000):
            self.run("jobs; echo told:$((1))")
            shown = self.terminal.await_match(rb"(?s).*told:1\r\n.*42ready> ")[0]
            if state in shown:
                return
        raise AssertionError(f"no job is {state!r}")


class AsTheBareCommand(PtyTest):
    def play(self, scene):
        """What `scene` returned, the same for both."""
        told = []
        for wrapper in ("", WRAPPED):
            terminal = self.terminal(command=SHELL)
            told.append(scene(Scene(terminal, wrapper)))
            terminal.close()
        self.assertEqual(told[1], told[0])
        return told[0]

    def test_the_keys_that_end_a_command(self):
        for key, code in ((b"\x03", 128 + signal.SIGINT), (b"\x1c", 128 + signal.SIGQUIT)):
            def scene(s, key=key):
                s.run("ulimit -c 0; WRAP sh -c 'echo ready:$$; exec sleep 1000'")
                s.await_pid()
                s.key(key)
                return s.status()
            self.assertEqual(self.play(scene), code)

    def test_each_key_reaches_a_command_once(self):
        def scene(s):
            s.run("WRAP " + LISTENER)
            pid = s.await_pid()
            seen = []
            for key, name in ((b"\x03", "INT"), (b"\x1c", "QUIT")):
                s.key(key)
                s.await_text(f"got:{name}")
            os.kill(pid, signal.SIGUSR1)
            # What came before that has been told by then.
            seen.append(s.terminal.await_match(rb"(?s)(.*)got:USR1")[1].count(b"got:"))
            os.kill(pid, signal.SIGKILL)
            return seen, s.status()
        self.assertEqual(self.play(scene), ([0], 137))

    def test_it_stops_and_goes_on_in_the_background_and_the_foreground(self):
        def scene(s):
            s.run("WRAP sh -c 'echo ready:$$; exec cat'")
            pid = s.await_pid()
            s.key(b"\x1a")
            await_state(pid, "T")
            stopped = s.status()
            s.await_prompt()
            s.await_job(b"Stopped")
            s.run("fg")
            s.run("awake")
            s.terminal.await_match(rb"(?s)awake\r\n.*awake\r\n")
            s.key(b"\x04")
            return stopped, s.status()
        self.assertEqual(self.play(scene), (128 + signal.SIGTSTP, 0))

    def test_a_stopped_command_goes_on_in_the_background(self):
        def scene(s):
            s.run("WRAP sh -c 'echo ready:$$; exec sleep 1000'")
            pid = s.await_pid()
            s.key(b"\x1a")
            await_state(pid, "T")
            s.await_job(b"Stopped")
            s.run("bg")
            s.await_job(b"Running")
            state = state_of(pid)
            s.run("kill -9 %1")
            return state == "T", s.status()
        self.assertEqual(self.play(scene), (False, 0))

    def test_who_reads_the_terminal_in_the_background_stops(self):
        def scene(s):
            s.run("WRAP cat &")
            s.await_job(b"Stopped")
            s.run("fg")
            s.run("from the foreground")
            s.terminal.await_match(rb"(?s)from the foreground\r\n.*from the foreground\r\n")
            s.key(b"\x04")
            return s.status()
        self.assertEqual(self.play(scene), 0)

    def test_who_writes_to_it_there_stops_where_the_terminal_says_so(self):
        def scene(s):
            s.run("stty tostop; WRAP sh -c 'echo loud:$((6 * 7))' &")
            s.await_job(b"Stopped")
            s.run("fg")
            s.await_text("loud:42")
            return s.status()
        self.assertEqual(self.play(scene), 0)

    def test_who_changes_its_modes_there_stops(self):
        def scene(s):
            s.run("WRAP stty echo &")
            s.await_job(b"Stopped")
            s.run("fg")
            return s.status()
        self.assertEqual(self.play(scene), 0)

    def test_a_command_asks_for_a_password_at_the_terminal_whatever_its_streams_are(self):
        def scene(s):
            s.run("WRAP sh -c 'echo ready:$$ >/dev/tty; read x </dev/tty; echo \"got $x\" >/dev/tty'"
                  " </dev/null >/dev/null 2>&1")
            s.await_pid()
            s.run("secret")
            s.await_text("got secret")
            return s.status()
        self.assertEqual(self.play(scene), 0)

    def test_a_pipeline_is_one_job(self):
        def scene(s):
            s.run("WRAP sh -c 'echo ready:$$ >/dev/tty; exec cat' | WRAP cat | cat")
            pid = s.await_pid()
            s.key(b"\x1a")
            await_state(pid, "T")
            s.await_job(b"Stopped")
            s.run("fg")
            s.run("through")
            s.terminal.await_match(rb"(?s)through\r\n.*through\r\n")
            s.key(b"\x03")
            return s.status()
        self.assertEqual(self.play(scene), 130)

    def test_a_change_of_size_reaches_it_once(self):
        def scene(s):
            s.run("WRAP " + LISTENER)
            pid = s.await_pid()
            s.terminal.resize(40, 120)
            s.await_text("got:WINCH")
            os.kill(pid, signal.SIGUSR1)
            more = s.terminal.await_match(rb"(?s)(.*)got:USR1")[1].count(b"got:")
            os.kill(pid, signal.SIGKILL)
            return more, s.status()
        self.assertEqual(self.play(scene), (0, 137))

    def test_the_end_of_the_terminal_reaches_it(self):
        mark = os.path.join(self.home, "hung-up")

        def scene(s):
            s.run(f"WRAP sh -c 'trap \"echo hup >>{mark}; exit\" HUP; echo ready:$$; "
                  "while :; do sleep 0.02; done'")
            end = os.pidfd_open(s.await_pid())
            s.terminal.hang_up()
            wait_for_end(end)
            with open(mark, encoding="ascii") as file:
                told = set(file)  # the kernel tells it, and the shell
            os.unlink(mark)
            return told
        self.assertEqual(self.play(scene), {"hup\n"})

    def test_with_nohup_it_outlives_the_terminal(self):
        def scene(s):
            s.run("nohup WRAP sh -c 'echo ready:$$ >/dev/tty; while :; do sleep 0.02; done' "
                  ">/dev/null 2>&1")
            pid = s.await_pid()
            end = os.pidfd_open(pid)
            with open(f"/proc/{pid}/status", encoding="ascii") as status:
                ignored = int(re.search(r"SigIgn:\s*(\w+)", status.read())[1], 16)
            os.kill(pid, signal.SIGKILL)
            wait_for_end(end)
            return bool(ignored & 1 << signal.SIGHUP - 1)
        self.assertEqual(self.play(scene), True)

    def test_a_command_that_a_script_left_in_the_background_is_spared_ctrl_c(self):
        def scene(s):
            s.run("sh -c 'WRAP sh -c \"echo ready:\\$\\$; exec sleep 1000\" & wait'")
            pid = s.await_pid()
            s.key(b"\x03")
            code = s.status()
            alive = os.path.exists(f"/proc/{pid}")
            os.kill(pid, signal.SIGKILL)
            return code, alive
        self.assertEqual(self.play(scene), (130, True))


class AtATerminal(PtyTest):
    def test_a_forkserver_of_another_session_is_passed_over_unless_it_is_named(self):
        server = self.serve()  # of the session of the test
        self.environment = {**self.environment, "CLEANFORK_SOCKET": server.socket}
        opens = "true 2>/dev/null >/dev/tty && echo it can || echo it cannot"
        for options, can in (((), b"it can"), (("--socket", server.socket), b"it cannot")):
            terminal = self.terminal("spawn", *options, "--", "sh", "-c", opens)
            self.assertEqual(terminal.await_match(rb"(it can(not)?)\r\n")[1], can)
            self.assertEqual(terminal.exit_code(), 0)

    def test_a_job_that_nobody_could_continue_is_not_stopped(self):
        terminal = self.terminal("spawn", "--private", "sh", "-c", "echo $$.; exec cat")
        child = int(terminal.await_match(rb"(\d+)\.")[1])
        terminal.type(b"\x1a")
        terminal.type(b"still there\r")
        terminal.await_match(rb"still there\r\nstill there")
        self.assertNotEqual(state_of(child), "T")
        terminal.type(b"\x04")
        self.assertEqual(terminal.exit_code(), 0)

    def test_the_end_of_its_terminal_is_passed_on_by_a_command_that_leads_the_session(self):
        terminal = self.terminal("spawn", "--private", "sh", "-c", "echo $$.; exec sleep 1000")
        end = os.pidfd_open(int(terminal.await_match(rb"(\d+)\.")[1]))
        terminal.hang_up()
        wait_for_end(end)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(terminal.pid, 0)[1]),
                         128 + signal.SIGHUP)
        terminal.status = 0

    def test_a_timeout_ends_what_the_child_has_left_in_the_job_but_not_the_pipeline(self):
        terminal = self.terminal(command=SHELL)
        terminal.type(f"{CLEANFORK} spawn --private -q --timeout 1 -- sh -c 'sleep 1000 & "
                      "echo one:$! >/dev/tty; echo kept; wait' | (trap 'echo hit >/dev/tty' TERM; "
                      "cat; echo \"end of the:$((6 * 7))\")\n".encode())
        end = os.pidfd_open(int(terminal.await_match(rb"one:(\d+)")[1]))
        wait_for_end(end)
        self.assertNotIn(b"hit", terminal.await_match(rb"(?s)(.*)end of the:42")[0])


if __name__ == "__main__":
    unittest.main()
