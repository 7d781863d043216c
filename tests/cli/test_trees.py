"""The end of a child with all its descendants: by a cgroup of their own, and by looking in /proc."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import unittest

from support import (CLEANFORK, DEADLINE, CommandTest, Server, await_true, read_line, state_of,
                     wait_for_end)

PYTHON = sys.executable

# Says "ready PID" for itself and each descendant, in every way of getting away from a parent.
TREE = textwrap.dedent("""
    import os, signal, sys
    def stay():
        os.write(1, b"ready %d\\n" % os.getpid())
        while True:
            signal.pause()
    def sessions():            # a child with a session of its own
        if os.fork() == 0:
            os.setsid()
            stay()
    def orphan():              # daemon(3): the parent ends
        middle = os.fork()
        if middle == 0:
            os.setsid()
            if os.fork() == 0:
                stay()
            os._exit(0)
        os.waitpid(middle, 0)
    def stranger():            # an orphan without the environment, by another program
        middle = os.fork()
        if middle == 0:
            os.setsid()
            if os.fork() == 0:
                os.execve("/bin/sh", ["sh", "-c", "echo ready $$; exec sleep 100000"],
                          {"PATH": "/bin:/usr/bin"})
            os._exit(0)
        os.waitpid(middle, 0)
    def told():                # goes on when it is told to
        os.read(0, 1)
    def deaf():                # stops at nothing but SIGKILL
        if os.fork() == 0:
            for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(s, signal.SIG_IGN)
            os.setsid()
            stay()
    for what in sys.argv[1:]:
        globals()[what]()
""")
ALL = ("sessions", "orphan", "stranger", "deaf", "stay")

# Each process of it forks as fast as it can, up to the limit of its user.
BOMB = textwrap.dedent("""
    import os, time
    end = time.monotonic() + 60  # whatever becomes of the test
    os.write(1, b"begun\\n")
    while time.monotonic() < end:
        try:
            if os.fork() == 0:
                os.setsid()
        except OSError:
            pass
""")

# One process at a time: it forks, and the parent ends at once.
RUNNER = textwrap.dedent("""
    import os, time
    end = time.monotonic() + 60
    os.write(1, b"begun\\n")
    while time.monotonic() < end:
        try:
            if os.fork() != 0:
                os._exit(0)
            os.setsid()
        except OSError:
            pass
""")


def pidfds(pids):
    return [os.pidfd_open(pid) for pid in pids]


class OfEachKind(CommandTest):
    """A test for both ways of finding the tree: `means` and the environment that forces it."""

    def each(self):
        for means, disabled in (("cgroup", ""), ("walk", "clone_into_cgroup")):
            environment = {**self.environment, "CLEANFORK_DISABLE_FEATURES": disabled}
            if means == "cgroup" and not self.has_cgroups(environment):
                print("not run: no cgroup can be made here", file=sys.stderr)
                continue
            with self.subTest(means):
                yield means, environment

    def has_cgroups(self, environment):
        done = self.spawn("--tree", "--json-status-fd", "1", "true", env=environment)
        return '"tree":"cgroup"' in done.stdout

    def start(self, environment, *arguments, stdin=subprocess.DEVNULL):
        """The command in the foreground, with a pipe for its output."""
        return subprocess.Popen([CLEANFORK, "spawn", *arguments], env=environment,
                                stdin=stdin, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, bufsize=0)

    def finish(self, command):
        try:
            command.wait(DEADLINE)
        finally:
            command.stdout.close()
            command.stderr.close()
        return command.returncode

    def pids_of(self, command, count=len(ALL)):
        return [int(read_line(command.stdout).split()[1]) for _ in range(count)]


class EndOfATree(OfEachKind):
    def test_a_timeout_ends_all_descendants_that_got_away(self):
        for _, environment in self.each():
            command = self.start(environment, "--tree", "--timeout", "2", "--kill-after", "0.2",
                                 PYTHON, "-c", TREE, *ALL)
            there = pidfds(self.pids_of(command))
            self.assertEqual(self.finish(command), 124)
            for pidfd in there:
                wait_for_end(pidfd)

    def test_the_end_of_the_session_ends_what_a_child_that_has_ended_left(self):
        for _, environment in self.each():
            command = self.start(environment, "--tree", "--lifetime", "TERM:100ms",
                                 PYTHON, "-c", TREE, "sessions", "orphan", "stranger", "deaf",
                                 "told", stdin=subprocess.PIPE)
            there = pidfds(self.pids_of(command, 4))
            command.stdin.close()
            self.assertEqual(self.finish(command), 0)
            for pidfd in there:
                wait_for_end(pidfd)

    def test_without_the_option_they_live_on(self):
        command = self.start(self.environment, PYTHON, "-c", TREE, "orphan")
        pid, = self.pids_of(command, 1)
        self.assertEqual(self.finish(command), 0)
        self.assertIn(state_of(pid), "SR")
        end = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        wait_for_end(end)

    def test_the_command_tells_which_way_was_used(self):
        for means, environment in self.each():
            done = self.spawn("--tree", "-v", "--json-status-fd", "1", "true", env=environment)
            self.assertEqual([json.loads(line)["tree"] for line in done.stdout.splitlines()],
                             [means, means])
            self.assertIn("its tree by " + means, done.stderr)

    def test_no_cgroup_is_left_behind(self):
        for means, environment in self.each():
            if means != "cgroup":
                continue
            command = self.start(environment, "--tree", "cat", "/proc/self/cgroup")
            cgroup = [line[3:] for line in command.stdout.read().decode().splitlines()
                      if line.startswith("0::")][0]
            self.assertEqual(self.finish(command), 0)
            self.assertIn("cleanfork-tree.", cgroup)
            with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
                points = [line.split()[4] for line in mounts if " - cgroup2 " in line]
            server = int(cgroup.rpartition("cleanfork-tree.")[2].split(".")[0])
            try:
                wait_for_end(os.pidfd_open(server))
            except ProcessLookupError:
                pass
            self.assertFalse([p for p in points if os.path.exists(p + cgroup)])


@unittest.skipUnless(os.geteuid() == 0, "needs root, for a user with a limit of processes")
class EndOfATreeThatGrows(OfEachKind):
    USER = "60123"  # nobody's: its processes are those of the test

    def processes(self):
        """Those that live: whoever inherited the others may take its time to reap them."""
        def lives(name):
            try:
                return os.stat("/proc/" + name).st_uid == int(self.USER) and state_of(name) != "Z"
            except OSError:
                return False
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and lives(name)]

    def end_of(self, script):
        for _, environment in self.each():
            command = self.start(environment, "--tree", "--timeout", "1", "--kill-after", "0.1",
                                 "--user", self.USER, "--group", self.USER, "-C", "/",
                                 "--rlimit", "nproc=40", PYTHON, "-c", script)
            self.assertEqual(read_line(command.stdout), "begun")
            # It ends with the last process that has it.
            self.assertEqual(command.stdout.read(), b"")
            self.finish(command)
            await_true(lambda: not self.processes())  # it closes its files before it is gone

    def test_a_fork_bomb_is_ended(self):
        self.end_of(BOMB)

    def test_processes_that_fork_while_they_are_ended_are_ended(self):
        self.end_of(RUNNER)


class NoCgroup(CommandTest):
    def test_a_directory_that_is_no_cgroup_is_refused_and_nothing_in_it_is_opened(self):
        # A FIFO of that name in a plain directory blocked the forkserver for ever.
        for name in ("cgroup.kill", "cgroup.events", "cgroup.procs"):
            os.mkfifo(os.path.join(self.home, name))
        done = self.spawn("--cgroup", self.home, "--timeout", "1", "sleep", "100000")
        self.assertEqual(done.returncode, 125, done)
        self.assertIn("EBADF", done.stderr)


class KillTree(OfEachKind):
    def test_it_ends_the_tree_of_a_detached_child(self):
        for means, environment in self.each():
            os.environ["CLEANFORK_DISABLE_FEATURES"] = environment["CLEANFORK_DISABLE_FEATURES"]
            self.addCleanup(os.environ.pop, "CLEANFORK_DISABLE_FEATURES", None)
            server = Server()
            try:
                read_end, write_end = os.pipe()
                with os.fdopen(read_end, "rb", 0) as said:
                    done = self.spawn("--socket", server.socket, "-d", "--tree", "--fd",
                                      f"{write_end}:1", PYTHON, "-c", TREE, *ALL,
                                      pass_fds=[write_end])
                    os.close(write_end)
                    self.assertEqual(done.returncode, 0, done)
                    child = (done.stdout or done.stderr).split()[0]
                    there = pidfds([int(read_line(said).split()[1]) for _ in ALL])
                listed = json.loads(self.cleanfork("ps", "--socket", server.socket,
                                                   "--json").stdout)
                self.assertEqual(listed[0]["tree"], means)
                done = self.cleanfork("kill", "--socket", server.socket, "-9", "--tree", child)
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                for pidfd in there:
                    wait_for_end(pidfd)
                done = self.cleanfork("wait", "--socket", server.socket, child)
                self.assertEqual(done.returncode, 128 + signal.SIGKILL)
            finally:
                server.close()

    def test_a_child_that_was_spawned_without_it_is_refused_with_the_reason(self):
        server = Server()
        self.addCleanup(server.close)
        done = self.spawn("--socket", server.socket, "-d", "sleep", "100000")
        child = done.stdout.split()[0]
        done = self.cleanfork("kill", "--socket", server.socket, "--tree", child)
        self.assertEqual(done.returncode, 1, done)
        self.assertIn("without the target tree", done.stderr)
        done = self.cleanfork("kill", "--socket", server.socket, "-9", child)
        self.assertEqual(done.returncode, 0)
        self.cleanfork("wait", "--socket", server.socket, child)


if __name__ == "__main__":
    unittest.main()
