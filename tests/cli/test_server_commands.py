"""serve, ps, kill, wait, stats, shutdown and detached children, against a real forkserver."""

import json
import os
import signal
import socket
import subprocess
import unittest

from support import CLEANFORK, DEADLINE, CommandTest, read_line, wait_for_end


class ServerTest(CommandTest):
    def setUp(self):
        self.server = self.serve()
        self.at = ("--socket", self.server.socket)

    def detach(self, *args):
        """A detached child: its id and pid."""
        done = self.spawn("-d", *self.at, *args)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        child, pid = map(int, done.stdout.split())
        return child, pid

    def detach_for_long(self, *args):
        """A detached child that does not end by itself: its id and a pidfd."""
        child, pid = self.detach(*args)
        self.addCleanup(self.kill_for_sure, os.pidfd_open(pid))
        return child, os.pidfd_open(pid)

    @staticmethod
    def kill_for_sure(pidfd):
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass
        os.close(pidfd)

    def ps(self):
        done = self.cleanfork("ps", "--json", *self.at)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return json.loads(done.stdout)

    def succeed(self, *args):
        done = self.cleanfork(*args, *self.at)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done)
        return done.stdout


class Detached(ServerTest):
    def test_a_detached_child_lives_on_and_can_be_listed_killed_and_waited_for(self):
        child, pidfd = self.detach_for_long("sleep", "1000")
        [listed] = self.ps()
        self.assertEqual((listed["child"], listed["running"], listed["keep"], listed["command"]),
                         (child, True, True, "sleep 1000"))
        self.assertEqual(listed["session"], 0)
        self.succeed("kill", str(child))
        wait_for_end(pidfd)
        waited = self.cleanfork("wait", str(child), *self.at)
        self.assertEqual((waited.returncode, waited.stdout),
                         (128 + signal.SIGTERM, f"{child} killed by SIGTERM\n"))
        self.assertEqual(self.ps(), [])

    def test_its_standard_streams_are_not_the_pipes_of_the_caller(self):
        child, pidfd = self.detach_for_long("sleep", "1000")
        pid = self.ps()[0]["pid"]
        self.assertEqual([os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)],
                         ["/dev/null"] * 3)
        self.succeed("kill", "-9", str(child))
        wait_for_end(pidfd)

    def test_it_keeps_files_and_what_fd_names(self):
        path = os.path.join(self.home, "log")
        with open(path, "w", encoding="ascii") as log:
            done = subprocess.run(
                [CLEANFORK, "spawn", "-d", "--json", *self.at, "sh", "-c", "echo to the log"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.PIPE, text=True,
                env=self.environment, timeout=DEADLINE, check=True)
        # Standard output is the child's, so ours is on standard error.
        child = json.loads(done.stderr)["child"]
        self.assertEqual(self.cleanfork("wait", str(child), *self.at).returncode, 0)
        with open(path, encoding="ascii") as log:
            self.assertEqual(log.read(), "to the log\n")

        process = self.start("-d", "--fd", "1", *self.at, "sh", "-c", "echo to the pipe")
        self.assertEqual(read_line(process.stdout), "to the pipe")
        self.assertEqual(process.wait(DEADLINE), 0)

    def test_json_has_child_and_pid(self):
        done = self.spawn("-d", "--json", *self.at, "true")
        self.assertEqual(set(json.loads(done.stdout)), {"child", "pid"})

    def test_without_a_forkserver_the_error_says_how_to_start_one(self):
        done = self.spawn("-d", "true")
        self.assertEqual((done.returncode, done.stdout), (125, ""))
        self.assertEqual(done.stderr.count("\n"), 1)
        self.assertIn("cleanfork serve", done.stderr)

    def test_a_failed_spawn_is_a_failure_of_detach_too(self):
        self.assertEqual(self.spawn("-d", *self.at, "no-such-program").returncode, 127)


class List(ServerTest):
    def test_the_table_is_aligned(self):
        children = [self.detach_for_long("sleep", "1000"), self.detach_for_long("cat", "/dev/zero")]
        lines = self.succeed("ps").splitlines()
        self.assertEqual(lines[0].split(), ["ID", "PID", "SESSION", "AGE", "STATUS", "COMMAND"])
        column = lines[0].index("COMMAND")
        self.assertEqual([line[column:] for line in lines[1:]], ["sleep 1000", "cat /dev/zero"])
        for child, pidfd in children:
            self.succeed("kill", "-s", "KILL", str(child))
            wait_for_end(pidfd)

    def test_control_characters_of_a_command_do_not_reach_the_terminal(self):
        child, pidfd = self.detach_for_long("sh", "-c", "exec sleep 1000 #\n\033[31m")
        shown = self.succeed("ps")
        self.assertEqual(len(shown.splitlines()), 2)
        self.assertNotIn("\033", shown)
        self.succeed("kill", "-9", str(child))
        wait_for_end(pidfd)

    def test_a_child_of_a_running_command_belongs_to_its_session(self):
        process = self.start(*self.at, "cat")
        process.stdin.write(b"x\n")
        self.assertEqual(read_line(process.stdout), "x")
        [listed] = self.ps()
        self.assertGreater(listed["session"], 0)
        self.assertFalse(listed["keep"])
        process.stdin.close()
        self.assertEqual(process.wait(DEADLINE), 0)
        self.assertEqual(self.ps(), [])


class Kill(ServerTest):
    def listener(self):
        process = self.start(*self.at, "sh", "-c",
                             "trap 'echo got HUP; exit 3' HUP; echo ready; "
                             "while :; do sleep 0.01; done")
        self.assertEqual(read_line(process.stdout), "ready")
        return process

    def test_signals_go_by_name_and_number(self):
        for option in (("-s", "HUP"), ("--signal", "SIGHUP"), ("-s1",), ("-1",), ("-HUP",)):
            with self.subTest(option):
                process = self.listener()
                child = self.ps()[0]["child"]
                self.succeed("kill", *option, str(child))
                self.assertEqual(read_line(process.stdout), "got HUP")
                self.assertEqual(process.wait(DEADLINE), 3)

    def test_the_group_gets_it_with_group(self):
        process = self.start(*self.at, "sh", "-c", "sleep 1000 & echo $!; wait; sleep 1000")
        grandchild = os.pidfd_open(int(read_line(process.stdout)))
        self.succeed("kill", "--group", "-9", str(self.ps()[0]["child"]))
        wait_for_end(grandchild)
        self.assertEqual(process.wait(DEADLINE), 137)

    def test_signal_0_only_looks(self):
        child, pidfd = self.detach_for_long("sleep", "1000")
        self.succeed("kill", "-0", str(child))
        self.succeed("kill", "-9", str(child))
        wait_for_end(pidfd)

    def test_a_child_that_does_not_exist_is_named_and_the_others_get_theirs(self):
        child, pidfd = self.detach_for_long("sleep", "1000")
        done = self.cleanfork("kill", "--json", "9999", str(child), *self.at)
        self.assertEqual(done.returncode, 1)
        self.assertIn("child 9999", done.stderr)
        first, second = json.loads(done.stdout)
        self.assertEqual(first["error"]["errno-name"], "ESRCH")
        self.assertNotIn("error", second)
        wait_for_end(pidfd)

    def test_wrong_usage_gives_2(self):
        for args in (("kill",), ("kill", "x"), ("kill", "-s", "NOSUCH", "1"), ("wait",),
                     ("kill", "--group", "--cgroup", "1"), ("ps", "--nonsense"), ("ps", "1")):
            with self.subTest(args):
                done = self.cleanfork(*args)
                self.assertEqual((done.returncode, done.stdout), (2, ""))
                self.assertEqual(done.stderr.count("\n"), 1)
                self.assertIn("--help", done.stderr)


class Wait(ServerTest):
    def test_one_child_gives_its_exit_code(self):
        child, _ = self.detach("sh", "-c", "exit 42")
        done = self.cleanfork("wait", str(child), *self.at)
        self.assertEqual((done.returncode, done.stdout), (42, f"{child} exited 42\n"))

    def test_many_give_0_only_when_all_were_successful(self):
        for last, expected in ((0, 0), (7, 1)):
            children = [str(self.detach("sh", "-c", f"exit {code}")[0]) for code in (0, last)]
            done = self.cleanfork("wait", "--json", *children, *self.at)
            self.assertEqual(done.returncode, expected)
            codes = [json.loads(line)["exit-code"] for line in done.stdout.splitlines()]
            self.assertEqual(codes, [0, last])

    def test_it_waits_for_a_child_that_still_runs(self):
        reader, writer = os.pipe()
        with open(writer, "wb"):
            done = self.spawn("-d", "--fd", f"{reader}:0", *self.at, "cat", pass_fds=[reader])
            os.close(reader)
            child = done.stdout.split()[0]
            late = self.cleanfork("wait", "--timeout", "50ms", child, *self.at)
            self.assertEqual((late.returncode, late.stdout), (124, ""))
            waiting = subprocess.Popen([CLEANFORK, "wait", child, *self.at],
                                       stdout=subprocess.PIPE, text=True)
        out, _ = waiting.communicate(timeout=DEADLINE)
        self.assertEqual((waiting.returncode, out), (0, f"{child} exited 0\n"))

    def test_a_child_that_does_not_exist_gives_125(self):
        done = self.cleanfork("wait", "9999", *self.at)
        self.assertEqual((done.returncode, done.stdout), (125, ""))
        self.assertIn("no such child", done.stderr)


    def test_one_timeout_counts_for_all_and_hides_nothing(self):
        done_child, pidfd = self.detach_for_long("sleep", "1000")
        running = [str(self.detach_for_long("sleep", "1000")[0]) for _ in range(2)]
        self.succeed("kill", "-9", str(done_child))
        wait_for_end(pidfd)
        late = self.cleanfork("wait", "--timeout", "1s", running[0], str(done_child), "9999",
                              running[1], *self.at)
        self.assertEqual((late.returncode, late.stdout), (124, f"{done_child} killed by SIGKILL\n"))
        for child in running:
            self.assertIn(f"child {child}: ", late.stderr)
        self.assertIn("child 9999: ", late.stderr)

    def test_one_that_does_not_exist_does_not_hide_the_others(self):
        child, _ = self.detach("sh", "-c", "exit 0")
        done = self.cleanfork("wait", "--json", "9999", str(child), *self.at)
        self.assertEqual(done.returncode, 125)
        first, second = (json.loads(line) for line in done.stdout.splitlines())
        self.assertEqual((first["child"], first["error"]["errno-name"]), (9999, "ESRCH"))
        self.assertEqual((second["child"], second["exit-code"]), (child, 0))


class Stopped(ServerTest):
    def test_each_command_gives_up_and_names_the_socket(self):
        self.server.process.send_signal(signal.SIGSTOP)
        try:
            commands = [subprocess.Popen([CLEANFORK, *args, *self.at], stdin=subprocess.DEVNULL,
                                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                        for args in (("ps",), ("stats",), ("kill", "1"), ("wait", "1"),
                                     ("shutdown", "--no-wait"), ("template", "list"),
                                     ("call", "t", "e"))]
            spawn = subprocess.Popen([CLEANFORK, "spawn", *self.at, "true"], text=True,
                                     stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for command in (*commands, spawn):
                with self.subTest(command.args):
                    out, err = command.communicate(timeout=DEADLINE)
                    self.assertIn(command.returncode, (1, 125))
                    self.assertEqual(out, "")
                    self.assertIn(self.server.socket, err)
                    self.assertIn("ETIMEDOUT", err)
        finally:
            self.server.process.send_signal(signal.SIGCONT)


class Stats(ServerTest):
    def test_figures_are_those_of_what_happened(self):
        self.output(*self.at, "true")
        self.spawn(*self.at, "no-such-program")
        figures = json.loads(self.succeed("stats", "--json"))
        self.assertEqual((figures["spawned-total"], figures["failed-total"],
                          figures["exited-total"], figures["children"]), (1, 1, 1, 0))
        self.assertEqual(figures["pid"], self.server.process.pid)
        self.assertIn("children", self.succeed("stats"))
        columns = {line.rindex("  ") for line in self.succeed("stats").splitlines()
                   if line.startswith("longest")}
        self.assertEqual(len(columns), 1)
        self.assertGreater(figures["turn-seconds-max"], 0)
        self.assertIn("longest turn", self.succeed("stats"))


class Shutdown(ServerTest):
    def test_it_ends_the_forkserver_and_its_children_and_returns_then(self):
        process = self.start(*self.at, "sh", "-c", "echo $$; exec sleep 1000")
        pidfd = os.pidfd_open(int(read_line(process.stdout)))
        self.succeed("shutdown")
        self.assertEqual(self.server.process.wait(DEADLINE), 0)
        wait_for_end(pidfd)
        self.assertEqual(process.wait(DEADLINE), 128 + signal.SIGTERM)
        self.assertFalse(os.path.exists(self.server.socket))

    def test_against_no_forkserver_each_command_says_so_in_one_line(self):
        self.server.close()
        for args in (("ps",), ("kill", "1"), ("wait", "1"), ("stats",), ("shutdown",)):
            with self.subTest(args):
                done = self.cleanfork(*args, *self.at)
                self.assertEqual((done.returncode, done.stdout), (1, ""))
                self.assertEqual(done.stderr,
                                 f"cleanfork: no forkserver answers at {self.server.socket}: start "
                                 f"one with `cleanfork serve --socket {self.server.socket}`\n")


class DefaultSocket(ServerTest):
    def test_spawn_uses_the_forkserver_at_the_default_socket_unless_private(self):
        environment = {**self.environment, "CLEANFORK_SOCKET": self.server.socket}
        said = self.spawn("-v", "true", env=environment).stderr
        self.assertIn(f"forkserver at {self.server.socket}, pid {self.server.process.pid}", said)
        self.assertIn("private forkserver", self.spawn("-v", "--private", "true",
                                                       env=environment).stderr)

    def test_a_file_that_is_no_socket_is_passed_over(self):
        path = os.path.join(self.home, "plain-file")
        with open(path, "w", encoding="ascii"):
            pass
        done = self.spawn("echo", "works", env={**self.environment, "CLEANFORK_SOCKET": path})
        self.assertEqual((done.returncode, done.stdout), (0, "works\n"))

    def test_a_forkserver_that_hangs_is_passed_over_with_a_note(self):
        path = os.path.join(self.home, "hangs")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as mute:
            mute.bind(path)
            mute.listen()
            done = self.spawn("echo", "works", env={**self.environment, "CLEANFORK_SOCKET": path})
            self.assertEqual((done.returncode, done.stdout), (0, "works\n"))
            self.assertRegex(done.stderr, rf"\Acleanfork: {path}: .*ETIMEDOUT.*private forkserver\n\Z")


if __name__ == "__main__":
    unittest.main()
