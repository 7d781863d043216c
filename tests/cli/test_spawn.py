"""`cleanfork spawn`: what runs, what it is given, and with what it exits."""

import errno
import os
import re
import signal
import stat
import subprocess
import unittest

from support import CLEANFORK, DEADLINE, CommandTest, wait_for_end
from template_support import HELPERS


class ExitStatus(CommandTest):
    def test_every_exit_code_of_the_command_is_passed_on(self):
        server = self.serve()
        codes = [self.spawn("--socket", server.socket, "sh", "-c", f"exit {code}").returncode
                 for code in range(256)]
        self.assertEqual(codes, list(range(256)))

    def test_a_command_that_dies_of_a_signal_gives_128_and_its_number(self):
        for number in (signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1,
                       signal.SIGRTMIN + 3):
            with self.subTest(number):
                done = self.spawn("sh", "-c", f"kill -{int(number)} $$")
                self.assertEqual(done.returncode, 128 + number)

    def test_a_surprising_signal_is_worth_one_line_unless_quiet(self):
        crash = ("sh", "-c", "ulimit -c 0; kill -SEGV $$")
        self.assertRegex(self.spawn(*crash).stderr,
                         r"\Acleanfork: child 1 \(pid \d+\) killed by SIGSEGV\n\Z")
        self.assertEqual(self.spawn("-q", *crash).stderr, "")

    def test_a_command_that_is_not_found_gives_127(self):
        for name in ("no-such-program-here", "/no/such/program", "./no-such-program"):
            with self.subTest(name):
                done = self.spawn(name)
                self.assertEqual(done.returncode, 127)
                self.assertRegex(done.stderr, rf'\Acleanfork: exec "{name}": .*\(ENOENT\).*\n\Z')

    def test_a_command_that_cannot_be_run_gives_126(self):
        plain = os.path.join(self.home, "plain")
        with open(plain, "w", encoding="ascii") as file:
            file.write("neither ELF nor a script\n")
        self.assertIn("EACCES", self.refused(plain, 126))
        os.chmod(plain, 0o755)
        self.assertIn("ENOEXEC", self.refused(plain, 126))
        self.assertIn("EACCES", self.refused(self.home, 126))

    def test_a_directory_that_is_missing_is_not_taken_for_a_missing_command(self):
        line = self.refused("-C", "/no/such/directory", "true", 125)
        self.assertIn('chdir "/no/such/directory"', line)
        self.assertIn("no such working directory", line)

    def test_a_socket_that_does_not_answer_gives_125_and_no_private_forkserver(self):
        line = self.refused("--socket", os.path.join(self.home, "nobody"), "true", 125)
        self.assertIn("nobody", line)
        self.assertIn("cleanfork serve", line)

    def refused(self, *args):
        *args, code = args
        done = self.spawn(*args)
        self.assertEqual((done.returncode, done.stdout), (code, ""), done)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        return done.stderr


class Filtered(CommandTest):
    """Under a seccomp filter that knows fewer system calls than the kernel."""

    def test_eperm_of_a_filter_means_missing_as_enosys_does(self):
        deny = os.path.join(HELPERS, "deny")
        for call in ("clone3", "close_range", "execveat", "pidfd_open", "pidfd_send_signal"):
            for number in (errno.EPERM, errno.ENOSYS):
                with self.subTest(call=call, errno=number):
                    done = subprocess.run(
                        [deny, "spawn", "--private", "sh", "-c", "echo works",
                         f"--deny={call}={number}", f"--program={CLEANFORK}"],
                        env=self.environment, capture_output=True, text=True, timeout=DEADLINE,
                        check=False)
                    self.assertEqual((done.returncode, done.stdout, done.stderr),
                                     (0, "works\n", ""))


class Options(CommandTest):
    def test_options_end_at_the_command(self):
        self.assertEqual(self.output("printf", "%s ", "-E", "--help", "--", "-v"),
                         "-E --help -- -v ")
        self.assertEqual(self.output("--", "echo", "--", "x"), "-- x\n")
        self.assertEqual(self.output("-E", "A=1", "printenv", "A"), "1\n")
        self.assertEqual(self.output("echo", ""), "\n")
        self.assertEqual(self.output("echo", "spawn", "kill", "[a,b]"), "spawn kill [a,b]\n")

    def test_wrong_usage_is_one_line_with_a_hint_and_125(self):
        for args, why in ((("--nonsense", "true"), "unknown option --nonsense"),
                          (("-Z", "true"), "unknown option -Z"),
                          ((), "COMMAND is missing"),
                          (("--",), "COMMAND is missing"),
                          (("--umask", "9", "true"), '--umask: "9" is not an octal mask'),
                          (("--rlimit", "nofiles=1", "true"), '"nofiles" is no limit'),
                          (("--fd", "77", "true"), "descriptor 77 is not open"),
                          (("--fd", "1:5", "--fd", "2:5", "true"), "5 is given twice"),
                          (("--nice", "20", "true"), '--nice: "20" is not a number'),
                          (("--timeout", "soon", "true"), '"soon" is not a duration'),
                          (("-E", "=x", "true"), '"=x" is not NAME=VALUE'),
                          (("--user", "no-such-user", "true"), 'no user "no-such-user"'),
                          (("--group", "no-such-group", "true"), 'no group "no-such-group"'),
                          (("--private", "--socket", "/x", "true"), "--private and --socket"),
                          (("--kill-after", "1", "true"), "--kill-after counts from --timeout"),
                          (("-t", "-d", "true"), "--pty: a detached child"),
                          (("--setsid", "--process-group", "5", "true"), "--process-group"),
                          (("--private", "-d", "true"), "cleanfork serve")):
            with self.subTest(args):
                done = self.spawn(*args)
                self.assertEqual((done.returncode, done.stdout), (125, ""))
                self.assertIn(why, done.stderr)
                self.assertIn("cleanfork spawn --help", done.stderr)
                self.assertEqual(done.stderr.count("\n"), 1)

    def test_help_is_aligned_and_short_enough_for_a_terminal(self):
        done = self.spawn("--help")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertLessEqual(max(map(len, done.stdout.splitlines())), 100)
        for option in ("-E, --setenv", "-u, --unset", "-i, --ignore-environment", "-C, --chdir",
                       "-a, --argv0", "--fd", "--listen-fd", "--setsid", "--process-group",
                       "--umask", "--rlimit", "--nice", "--cpus", "--sched", "--oom-score-adj",
                       "--user", "--group", "--groups", "--no-new-privs", "--cgroup",
                       "--die-with-parent", "--lifetime", "-d, --detach", "--timeout",
                       "--kill-after", "--tree", "--restart", "--restart-delay", "--restart-max",
                       "--restart-window", "--stdout", "--stderr", "--rotate-size",
                       "--rotate-count", "-t, --pty", "--socket", "--private", "--json",
                       "--json-status-fd", "-q, --quiet", "-v, --verbose"):
            self.assertRegex(done.stdout, rf"(?m)^  {option}( |$)")
        self.assertIn("Examples:", done.stdout)


class StandardStreams(CommandTest):
    def test_input_and_output_are_pipes_of_the_caller(self):
        self.assertEqual(self.output("sort", input="b\na\n"), "a\nb\n")
        big = "x" * 1_000_000
        self.assertEqual(self.output("cat", input=big), big)

    def test_standard_error_is_the_childs_alone(self):
        done = self.spawn("sh", "-c", "echo out; echo err >&2")
        self.assertEqual((done.stdout, done.stderr), ("out\n", "err\n"))

    def test_a_stream_that_is_closed_is_dev_null_in_the_child(self):
        def close_input_and_output():
            os.close(0)
            os.close(1)
        done = self.spawn("/usr/bin/python3", "-S", "-c",
                          "import os; os.write(2, ascii([os.readlink(f'/proc/self/fd/{fd}') "
                          "for fd in (0, 1)]).encode())", preexec_fn=close_input_and_output)
        self.assertEqual(done.stderr, "['/dev/null', '/dev/null']")

    def test_the_descriptors_of_the_command_keep_their_blocking_mode(self):
        read_end, write_end = os.pipe()
        with open(read_end, "rb"), open(write_end, "wb"):
            self.spawn("-t", "true", stdin=read_end)
            self.assertTrue(os.get_blocking(read_end))


class Descriptors(CommandTest):
    def open_many(self):
        """Eight inheritable descriptors, as a careless caller has them."""
        fds = [os.open("/dev/null", os.O_RDONLY) for _ in range(8)]
        for fd in fds:
            os.set_inheritable(fd, True)
            self.addCleanup(os.close, fd)
        return fds

    def test_a_child_has_nothing_but_its_standard_streams(self):
        fds = self.open_many()
        listing = self.output("ls", "/proc/self/fd", close_fds=False)
        # ls has the directory open as the lowest free number.
        self.assertEqual(listing.split(), ["0", "1", "2", "3"])
        self.assertGreater(max(fds), 3)

    def test_a_descriptor_is_passed_under_its_own_number_or_another(self):
        for target, option in ((None, "{}"), (3, "{}:3"), (700, "{}:700")):
            read_end, write_end = os.pipe()
            with open(read_end, "rb") as reader, open(write_end, "wb") as writer:
                number = target if target is not None else write_end
                path = f"/proc/self/fd/{number}"
                self.output("--fd", option.format(write_end), "sh", "-c", f"echo hello >{path}",
                            pass_fds=[write_end])
                writer.close()
                self.assertEqual(reader.read(), b"hello\n")

    def test_a_descriptor_can_stand_in_for_a_standard_stream(self):
        read_end, write_end = os.pipe()
        with open(read_end, "rb") as reader:
            with open(write_end, "wb"):
                shown = self.output("--fd", f"{write_end}:2", "sh", "-c", "echo out; echo err >&2",
                                    pass_fds=[write_end])
            self.assertEqual((shown, reader.read()), ("out\n", b"err\n"))

    def test_descriptors_are_passed_as_socket_activation_does(self):
        read_end, write_end = os.pipe()
        with open(read_end, "rb"), open(write_end, "wb"):
            shown = self.output(
                "--listen-fd", f"http={read_end}", "--listen-fd", f"log={write_end}",
                "sh", "-c", "echo $LISTEN_FDS $LISTEN_FDNAMES $((LISTEN_PID - $$)); "
                            "readlink /proc/$$/fd/3 /proc/$$/fd/4",
                pass_fds=[read_end, write_end])
            self.assertEqual(shown.splitlines(),
                             ["2 http:log 0", os.readlink(f"/proc/self/fd/{read_end}"),
                              os.readlink(f"/proc/self/fd/{write_end}")])


class Environment(CommandTest):
    def test_variables_are_set_removed_and_cleared(self):
        environment = {**self.environment, "KEPT": "1", "GONE": "2"}
        shown = self.output("-u", "GONE", "-E", "NEW=a=b", "--setenv=EMPTY=", "env",
                            env=environment).splitlines()
        self.assertIn("KEPT=1", shown)
        self.assertIn("NEW=a=b", shown)
        self.assertIn("EMPTY=", shown)
        self.assertFalse([line for line in shown if line.startswith("GONE=")])
        self.assertEqual(self.output("-i", "-E", "ONLY=1", "/usr/bin/env"), "ONLY=1\n")

    def test_the_environment_is_that_of_the_command_and_not_of_the_forkserver(self):
        server = self.serve()
        self.assertEqual(self.output("--socket", server.socket, "printenv", "MINE",
                                     env={**self.environment, "MINE": "yes"}), "yes\n")

    def test_the_working_directory_is_that_of_the_command_or_the_one_given(self):
        server = self.serve()
        where = os.path.realpath(self.home)
        os.makedirs(os.path.join(where, "below"), exist_ok=True)
        self.assertEqual(self.output("--socket", server.socket, "pwd", "-P", cwd=where),
                         where + "\n")
        self.assertEqual(self.output("-C", "/usr", "pwd", "-P"), "/usr\n")
        self.assertEqual(self.output("-C", "below", "pwd", "-P", cwd=where), where + "/below\n")

    def test_the_name_of_the_command_can_be_another(self):
        self.assertEqual(self.output("-a", "other", "sh", "-c", "tr '\\0' ' ' </proc/$$/cmdline"
                                     ).split()[0], "other")

    def test_the_search_goes_through_the_childs_path(self):
        script = os.path.join(self.home, "only-here")
        with open(script, "w", encoding="ascii") as file:
            file.write("#!/bin/sh\necho found\n")
        os.chmod(script, stat.S_IRWXU)
        self.assertEqual(self.output("-E", f"PATH={self.home}", "only-here"), "found\n")
        self.assertEqual(self.spawn("only-here").returncode, 127)


class FreshState(CommandTest):
    def test_no_signal_is_blocked_or_ignored_whatever_the_caller_has(self):
        def mess_up():
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2, signal.SIGRTMIN + 1})
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        status = self.output("cat", "/proc/self/status", preexec_fn=mess_up)
        for field in ("SigBlk", "SigIgn", "SigCgt"):
            self.assertRegex(status, rf"(?m)^{field}:\t0{{16}}$")

    def test_a_private_forkserver_leaves_nothing_behind(self):
        said = self.spawn("-v", "true").stderr
        pid = int(re.search(r"private forkserver, pid (\d+)", said)[1])
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        wait_for_end(pidfd)


if __name__ == "__main__":
    unittest.main()
