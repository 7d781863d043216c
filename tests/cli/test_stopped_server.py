"""A forkserver that answers nobody any more: each command gives up, and says on whom it waited."""

import json
import os
import signal
import socket
import subprocess
import threading
import unittest

from support import (CLEANFORK, DEADLINE, CommandTest, await_state, await_true, read_line,
                     wait_for_end)

# What each ends with, and its words: those that ask, and those that start something.
COMMANDS = {
    1: (("ps",), ("stats",), ("kill", "1", "2", "3"), ("shutdown",), ("template", "list"),
        ("template", "show", "t"), ("template", "remove", "t"), ("template", "reload", "t"),
        ("template", "add", "t", "--", "true")),
    125: (("spawn", "true"), ("spawn", "-d", "true"), ("spawn", "-t", "true"), ("call", "t", "e"),
          ("call", "-d", "t", "e")),
}


class GreetingOnly:
    """Stands between a command and the forkserver, and holds all that comes after the greeting."""

    def __init__(self, directory, name, server):
        self.path = os.path.join(directory, name)
        self.greeted, self.go_on = threading.Event(), threading.Event()
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(self.path)
        self.listener.listen()
        self.server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.server.connect(server)
        self.client = None
        self.thread = threading.Thread(target=self.work)
        self.thread.start()

    @staticmethod
    def carry(source, target):
        packet, fds, _, _ = socket.recv_fds(source, 1 << 20, 64)
        if packet:
            socket.send_fds(target, [packet], fds)
        for fd in fds:
            os.close(fd)
        return bool(packet)

    def work(self):
        self.client, _ = self.listener.accept()
        self.carry(self.client, self.server)
        self.carry(self.server, self.client)
        self.greeted.set()
        self.go_on.wait()
        while self.carry(self.client, self.server):
            pass

    def close(self):
        self.go_on.set()
        self.thread.join(DEADLINE)
        for one in (self.listener, self.server, self.client):
            one.close()


class Stopped(CommandTest):
    def setUp(self):
        self.server = self.serve()
        self.addCleanup(self.server.process.send_signal, signal.SIGCONT)

    def templates(self):
        """The name of each, and how many calls wait for it."""
        told = self.cleanfork("template", "list", "--json", "--socket", self.server.socket).stdout
        return [(t["name"], t["waiting"]) for t in json.loads(told)]

    def stop(self):
        self.server.process.send_signal(signal.SIGSTOP)
        await_state(self.server.process.pid, "T")

    def begin(self, *command, at=None):
        named = 2 if command[0] == "template" else 1
        words = [*command[:named], "--socket", at or self.server.socket, *command[named:]]
        process = subprocess.Popen([CLEANFORK, *words],
                                   env=self.environment, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        self.addCleanup(self.end, process)
        return process

    def gave_up(self, process, code, *texts):
        process.wait(DEADLINE)
        # Its end is not that of the pipe, which has gone to the forkserver with the request.
        os.set_blocking(process.stderr.fileno(), False)
        told = process.stderr.read().decode()
        self.assertEqual(process.returncode, code, (process.args, told))
        for text in texts:
            self.assertIn(text, told, process.args)

    def test_before_its_greeting_every_command_names_the_socket(self):
        self.stop()
        begun = [(self.begin(*words), code) for code, all in COMMANDS.items() for words in all]
        for process, code in begun:
            self.gave_up(process, code, self.server.socket)

    def test_after_its_greeting_every_command_says_who_does_not_answer(self):
        begun = []
        for code, commands in COMMANDS.items():
            for words in commands:
                between = GreetingOnly(self.server.directory, f"p{len(begun)}", self.server.socket)
                self.addCleanup(between.close)
                begun.append((self.begin(*words, at=between.path), code, between))
        for _, _, between in begun:
            self.assertTrue(between.greeted.wait(DEADLINE))
        self.stop()
        for _, _, between in begun:
            between.go_on.set()
        for process, code, between in begun:
            self.gave_up(process, code, "stopped")

    def test_those_that_may_wait_long_find_out_too(self):
        child, _ = self.spawn("-d", "--socket", self.server.socket, "sleep", "1000").stdout.split()
        waiting = self.begin("wait", child)
        starting = self.begin("template", "add", "slow", "--", "/bin/sleep", "1000")
        while self.templates() != [("slow", 0)]:
            pass
        calling = self.begin("call", "slow", "entry")
        while self.templates() != [("slow", 1)]:
            pass
        self.stop()
        pid = f"(pid {self.server.process.pid}) at {self.server.socket}"
        self.gave_up(waiting, 125, pid, "it is stopped")
        self.gave_up(starting, 1, pid, "it is stopped")
        self.gave_up(calling, 125, pid, "it is stopped")
        self.server.process.send_signal(signal.SIGCONT)
        self.cleanfork("kill", "-9", "--socket", self.server.socket, child)

    def test_a_shutdown_tells_of_the_grace_it_waits_for_and_gives_up_a_stopped_forkserver(self):
        held = self.begin("spawn", "--lifetime", "TERM:1h", "sh", "-c",
                          "trap '' TERM; echo $$; while :; do sleep 1000; done")
        pid = int(read_line(held.stdout))
        ending = self.begin("shutdown")
        self.assertIn("its children have their grace", read_line(ending.stderr))
        self.stop()
        self.gave_up(ending, 1, "it is stopped")
        os.killpg(pid, signal.SIGKILL)

    def running(self, *options):
        process = self.begin("spawn", "-v", *options, "sh", "-c", "echo $$; exec sleep 1000")
        child = int(read_line(process.stdout))
        while "spawned in" not in read_line(process.stderr):
            pass
        self.stop()
        return process, child

    def test_the_end_of_a_child_that_is_not_told_is_said_and_told_later(self):
        process, child = self.running()
        os.kill(child, signal.SIGKILL)
        line = read_line(process.stderr)
        self.assertIn("the child has ended; waiting for the forkserver", line)
        self.assertIn("it is stopped", line)
        self.server.process.send_signal(signal.SIGCONT)
        self.assertEqual(process.wait(DEADLINE), 128 + signal.SIGKILL)

    def test_ctrl_c_ends_the_child_and_the_command_at_once(self):
        process, child = self.running()
        end = os.pidfd_open(child)
        process.send_signal(signal.SIGINT)
        wait_for_end(end)
        self.assertEqual(process.wait(DEADLINE), -signal.SIGINT)
        self.gave_up(process, -signal.SIGINT, "does not tell how: it is stopped")

    def test_ctrl_c_ends_the_wait_for_a_start(self):
        between = GreetingOnly(self.server.directory, "p", self.server.socket)
        self.addCleanup(between.close)
        process = self.begin("spawn", "sleep", "1000", at=between.path)
        self.assertTrue(between.greeted.wait(DEADLINE))
        self.stop()
        between.go_on.set()
        # Its signals are its own from before the request on, which is here once it can be read.
        while not is_blocked(process.pid, signal.SIGINT):
            os.sched_yield()
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(DEADLINE), -signal.SIGINT)
        self.server.process.send_signal(signal.SIGCONT)
        # Its program may have begun meanwhile; then it is ended.
        await_true(lambda: self.cleanfork("ps", "--json", "--socket",
                                          self.server.socket).stdout == "[]\n")


def is_blocked(pid, number):
    """Whether a process blocks the signal, to take it when it wants to."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        blocked = next(line for line in status if line.startswith("SigBlk")).split()[1]
    return bool(int(blocked, 16) & 1 << number - 1)


if __name__ == "__main__":
    unittest.main()
