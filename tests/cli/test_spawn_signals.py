"""Signals, stops, timeouts and ends of `cleanfork spawn`."""

import os
import signal
import subprocess
import time
import unittest

from support import CLEANFORK, DEADLINE, CommandTest, await_state, read_line, state_of, wait_for_end

# Says "ready PID", then each signal it gets, until SIGTERM.
LISTENER = ("/usr/bin/python3", "-S", "-c", """
import os, signal
which = set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGTSTP}
signal.pthread_sigmask(signal.SIG_BLOCK, which)
os.write(1, b"ready %d\\n" % os.getpid())
number = 0
while number != signal.SIGTERM:
    number = signal.sigwait(which)
    os.write(1, b"%s\\n" % signal.Signals(number).name.encode())
os._exit(7)
""")


class Forwarding(CommandTest):
    def listener(self, *options, **more):
        process = self.start(*options, *LISTENER, **more)
        ready = read_line(process.stdout)
        self.assertRegex(ready, r"\Aready \d+\Z")
        return process, int(ready.split()[1])

    def test_each_signal_arrives_once(self):
        process, _ = self.listener()
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1,
                       signal.SIGUSR2, signal.SIGCONT, signal.SIGWINCH):
            process.send_signal(number)
            self.assertEqual(read_line(process.stdout), number.name)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(read_line(process.stdout), "SIGTERM")
        self.assertEqual(process.wait(DEADLINE), 7)

    def test_a_child_that_dies_of_a_forwarded_signal_needs_no_line(self):
        process = self.start("sh", "-c", "echo ready; exec sleep 1000")
        read_line(process.stdout)
        process.send_signal(signal.SIGQUIT)
        self.assertEqual(process.wait(DEADLINE), 128 + signal.SIGQUIT)
        self.assertEqual(process.stderr.read(), b"")

    def test_signals_of_the_terminal_reach_the_whole_process_group(self):
        # Not in the background of the shell, which lets that ignore SIGINT.
        process = self.start("sh", "-c", "sh -c 'echo $$; exec sleep 1000'; true")
        pidfd = os.pidfd_open(int(read_line(process.stdout)))
        process.send_signal(signal.SIGINT)
        wait_for_end(pidfd)
        self.assertEqual(process.wait(DEADLINE), -signal.SIGINT)

    def test_signals_for_a_process_go_to_the_child_alone_whatever_their_number(self):
        process = self.start("/usr/bin/python3", "-S", "-c", """
import os, signal
which = set(range(1, 65)) - {9, 17, 19, 20, 32, 33}
signal.pthread_sigmask(signal.SIG_BLOCK, which)
other = os.fork()
if not other:
    os.write(1, b"other %d\\n" % signal.sigwait(which))
    os._exit(0)
os.write(1, b"ready\\n")
while (number := signal.sigwait(which)) != signal.SIGTERM:
    os.write(1, b"%d\\n" % number)
os.waitpid(other, 0)
""")
        self.assertEqual(read_line(process.stdout), "ready")
        for number in (signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO,
                       signal.SIGPWR, signal.SIGSTKFLT, signal.SIGUSR1,
                       *range(signal.SIGRTMIN, signal.SIGRTMAX + 1)):
            process.send_signal(number)
            self.assertEqual(read_line(process.stdout), str(int(number)))
        process.send_signal(signal.SIGTERM)
        self.assertEqual(read_line(process.stdout), "other 15")
        self.assertEqual(process.wait(DEADLINE), 0)

    def test_a_caller_that_blocks_all_signals_can_still_end_it(self):
        process, _ = self.listener(
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)))
        process.send_signal(signal.SIGTERM)
        self.assertEqual(read_line(process.stdout), "SIGTERM")
        self.assertEqual(process.wait(DEADLINE), 7)

    def test_a_stopped_child_is_ended_by_what_asks_it_to_end(self):
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
            process = self.start("sh", "-c", "echo $$; kill -STOP $$; exec sleep 1000")
            await_state(int(read_line(process.stdout)), "T")
            process.send_signal(number)
            self.assertIn(process.wait(DEADLINE), (128 + number, -number))

    def test_it_dies_of_the_sigint_that_its_child_died_of(self):
        process = self.start("sh", "-c", "kill -INT $$")
        self.assertEqual(process.wait(DEADLINE), -signal.SIGINT)
        # One that handles it, or only says so, has an exit status.
        handled = self.start("sh", "-c", "trap 'exit 5' INT; echo; while :; do sleep 0.01; done")
        read_line(handled.stdout)
        handled.send_signal(signal.SIGINT)
        self.assertEqual(handled.wait(DEADLINE), 5)
        self.assertEqual(self.spawn("sh", "-c", "exit 130").returncode, 130)

    def test_ctrl_c_ends_the_loop_of_a_script_around_it(self):
        loop = 'for i in 1 2; do "$@"; done; echo reached the end'
        script = subprocess.Popen(["bash", "-c", loop, "bash", CLEANFORK, "spawn", "sh", "-c",
                                   "echo round; exec sleep 1000"], env=self.environment, bufsize=0,
                                  stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
                                  start_new_session=True)
        self.assertEqual(read_line(script.stdout), "round")
        os.killpg(script.pid, signal.SIGINT)  # as a terminal does
        self.assertEqual(script.communicate(timeout=DEADLINE)[0], b"")
        self.assertEqual(script.returncode, -signal.SIGINT)

    def test_a_signal_that_was_ignored_at_the_start_is_not_forwarded(self):
        process, _ = self.listener(
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGUSR1)
        self.assertEqual(read_line(process.stdout), "SIGUSR1")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(read_line(process.stdout), "SIGTERM")

    def test_tstp_stops_the_child_then_the_command_and_cont_continues_both(self):
        for options in ((), ("--setsid",)):
            process = self.start(*options, "sh", "-c", "echo $$; exec cat")
            child = int(read_line(process.stdout))
            process.send_signal(signal.SIGTSTP)
            _, status = os.waitpid(process.pid, os.WUNTRACED)
            self.assertTrue(os.WIFSTOPPED(status))
            await_state(child, "T")
            process.send_signal(signal.SIGCONT)
            process.stdin.write(b"awake\n")
            self.assertEqual(read_line(process.stdout), "awake")
            self.assertNotEqual(state_of(child), "T")
            process.stdin.close()
            self.assertEqual(process.wait(DEADLINE), 0)


class EverySignal(CommandTest):
    """Sent to the command, it does to the child what it does to a bare one."""

    # For this command alone, as the manual says: those that it ignores, and those that stop it.
    ALONE = {signal.SIGPIPE, signal.SIGXFSZ, signal.SIGSTOP, signal.SIGTTIN, signal.SIGTTOU}
    # A sanitizer handles these in the command itself.
    OF_SANITIZERS = ({signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
                     if os.environ.get("CLEANFORK_SANITIZE") else set())
    OF_SHELLS = {signal.SIGTSTP}  # of a job, which takes a shell: test_terminal_jobs.py

    def outcome(self, number, *words):
        process = subprocess.Popen([*words, "sh", "-c", "ulimit -c 0; echo $$; exec sleep 1000"],
                                   env=self.environment, bufsize=0, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.addCleanup(self.end, process)
        child = int(read_line(process.stdout))
        end = os.pidfd_open(child)
        # What has no effect is told from what has not come yet by the end that comes after it.
        process.send_signal(number)
        if number in (signal.SIGCONT, signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH):
            process.send_signal(signal.SIGTERM)
        code = process.wait(DEADLINE)
        wait_for_end(end)
        return code - 128 if code > 128 else -code

    def test_each_ends_or_spares_it_as_the_bare_command(self):
        for number in sorted(signal.valid_signals() - self.ALONE - self.OF_SHELLS
                             - self.OF_SANITIZERS):
            with self.subTest(number):
                bare = self.outcome(number, "env")
                self.assertEqual(self.outcome(number, CLEANFORK, "spawn", "-q", "--"), bare)


class Timeouts(CommandTest):
    def timed_out(self, *options, script):
        """A script that is ready for the signal before it gets it, however slow the machine."""
        for milliseconds in (100, 1_000, 10_000, 100_000):
            done = self.spawn("-q", "--timeout", f"{milliseconds}ms", *options, "sh", "-c", script,
                              timeout=2 * DEADLINE)
            if done.stdout.startswith("ready\n"):
                break
        return done

    def test_a_command_that_takes_too_long_gets_sigterm_and_gives_124(self):
        begun = time.monotonic()
        done = self.spawn("--timeout", "100ms", "sleep", "1000")
        self.assertEqual((done.returncode, done.stderr),
                         (124, "cleanfork: timed out after 100 ms: SIGTERM\n"))
        self.assertGreaterEqual(time.monotonic() - begun, 0.1)

    def test_one_that_does_not_heed_it_is_killed_and_gives_137(self):
        done = self.timed_out("--kill-after", "50ms",
                              script="trap '' TERM; echo ready; while :; do sleep 1000; done")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (137, "ready\n", ""))

    def test_one_that_handles_it_still_gives_124(self):
        done = self.timed_out(script="trap 'echo bye; exit 3' TERM; echo ready; sleep 1000 & wait")
        self.assertEqual((done.returncode, done.stdout), (124, "ready\nbye\n"))

    def test_a_stopped_command_is_ended_too(self):
        done = self.spawn("-q", "--timeout", "100ms", "sh", "-c", "kill -STOP $$")
        self.assertEqual(done.returncode, 124)

    def test_the_signal_can_be_chosen_as_with_timeout(self):
        script = ("trap 'echo int; exit 3' INT; trap 'echo usr; exit 3' USR1; echo ready; "
                  "while :; do sleep 0.02; done")
        for options, told in ((("-s", "INT"), "int"), (("--signal", "USR1"), "usr")):
            done = self.timed_out(*options, script=script)
            self.assertEqual((done.returncode, done.stdout), (124, f"ready\n{told}\n"))
        for options in (("-s", "KILL"), ("-s", "HUP"), ("-s", "INT", "-k", "0.1"),
                        ("-s", "WINCH", "-k", "0.1")):
            words = ("sh", "-c", "trap '' INT; while :; do sleep 1000; done")
            # timeout(1) dies of its own SIGKILL; a shell tells both as 137.
            theirs = subprocess.run(["timeout", *options, "0.1", *words], check=False).returncode
            ours = self.spawn("-q", *options, "--timeout", "0.1", *words).returncode
            self.assertEqual(ours, 128 - theirs if theirs < 0 else theirs, options)

    def test_a_signal_without_a_timeout_is_refused(self):
        self.assertIn("--signal is what --timeout sends", self.spawn("-s", "INT", "true").stderr)

    def test_one_that_is_quick_is_not_touched(self):
        for timeout in ("1d", "0"):
            self.assertEqual(self.output("--timeout", timeout, "sh", "-c", "sleep 0.01; echo ok"),
                             "ok\n")


class Ends(CommandTest):
    """What becomes of the child when the command is killed."""

    def killed(self, *options, script="echo $$; exec sleep 1000"):
        process = self.start(*options, "sh", "-c", script)
        pidfd = os.pidfd_open(int(read_line(process.stdout)))
        process.kill()
        process.wait()
        return process, pidfd

    def test_the_child_ends_with_its_command(self):
        wait_for_end(self.killed()[1])

    def test_the_child_gets_the_signal_of_its_lifetime(self):
        process, pidfd = self.killed(
            "--lifetime", "USR1:3600s",
            script="trap 'echo got USR1; exit' USR1; echo $$; while :; do sleep 0.01; done")
        wait_for_end(pidfd)
        self.assertEqual(read_line(process.stdout), "got USR1")

    def test_a_child_that_does_not_heed_it_is_killed_after_the_grace(self):
        wait_for_end(self.killed("--lifetime", "TERM:50ms",
                                 script="trap '' TERM; echo $$; while :; do sleep 1000; done")[1])

    def test_die_with_parent_kills_at_once_and_the_whole_group(self):
        process = self.start("--die-with-parent", "sh", "-c",
                             "trap '' TERM; sleep 1000 & echo $!; echo $$; wait")
        pidfds = [os.pidfd_open(int(read_line(process.stdout))) for _ in range(2)]
        process.kill()
        for pidfd in pidfds:
            wait_for_end(pidfd)

    def test_die_with_parent_covers_the_forkserver(self):
        server = self.serve()
        process = self.start("--socket", server.socket, "--die-with-parent",
                             "sh", "-c", "echo $$; exec sleep 1000")
        pidfd = os.pidfd_open(int(read_line(process.stdout)))
        server.process.kill()
        wait_for_end(pidfd)
        self.assertIn(process.wait(DEADLINE), (128 + signal.SIGKILL, 125))

    def test_keep_outlives_the_command(self):
        server = self.serve()
        process, pidfd = self.killed("--socket", server.socket, "--lifetime", "keep",
                                     script="echo $$; exec cat")
        # Its input ended with the command, and nothing else did: it ends by itself.
        process.stdin.close()
        wait_for_end(pidfd)
        waited = self.cleanfork("wait", "--socket", server.socket, "1")
        self.assertEqual((waited.returncode, waited.stdout), (0, "1 exited 0\n"))


if __name__ == "__main__":
    unittest.main()
