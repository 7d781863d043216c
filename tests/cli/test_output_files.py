"""Output to files: appended to as it is, and through a writer that starts new ones by size."""

import json
import os
import re
import signal
import stat
import sys
import unittest

from support import CommandTest, Server, await_true, wait_for_end

PYTHON = sys.executable


class FileTest(CommandTest):
    def setUp(self):
        self.server = Server()
        self.addCleanup(self.server.close)
        self.directory = self.server.directory
        self.log = os.path.join(self.directory, "log")

    def ask(self, command, *arguments, **options):
        return self.cleanfork(command, "--socket", self.server.socket, *arguments, **options)

    def start(self, *arguments, **options):
        done = self.ask("spawn", "-d", *arguments, **options)
        self.assertEqual(done.returncode, 0, done)
        return done.stdout.split()[0]

    def writers(self, directory=None):
        """The pids of the processes that write logs in our directory."""
        found = []
        for name in os.listdir("/proc"):
            try:
                with open(f"/proc/{name}/cmdline", "rb") as line:
                    if line.read().startswith(b"cleanfork-log\0") and \
                            os.readlink(f"/proc/{name}/fd/3") == (directory or self.directory):
                        found.append(int(name))
            except OSError:
                pass
        return found

    def all_have_begun(self):
        """No process of the forkserver is on its way to its program still."""
        forkserver = self.server.process.pid
        with open(f"/proc/{forkserver}/cmdline", "rb") as line:
            its_own = line.read()
        with open(f"/proc/{forkserver}/task/{forkserver}/children") as children:
            pids = children.read().split()
        for pid in pids:
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as line:
                    if line.read() == its_own:
                        return False
            except OSError:
                pass
        return True

    def finish(self, child, code=0):
        """Back when the child has ended, and its writers with it."""
        await_true(self.all_have_begun)
        writers = []
        for pid in self.writers():
            try:
                writers.append(os.pidfd_open(pid))
            except ProcessLookupError:
                pass
        done = self.ask("wait", child)
        self.assertEqual(done.returncode, code, done)
        for writer in writers:
            wait_for_end(writer)

    def content(self, name="log"):
        with open(os.path.join(self.directory, name), "rb") as file:
            return file.read()

    def logs(self):
        return sorted((n for n in os.listdir(self.directory) if re.fullmatch(r"log(\.\d+)?", n)),
                      key=lambda n: -int(n[4:] or 0))


class PlainFiles(FileTest):
    def test_they_are_appended_to_and_no_process_is_in_between(self):
        with open(self.log, "wb") as log:
            log.write(b"before\n")
        child = self.start("--stdout", "log", "--stderr", self.log, "sh", "-c",
                           "echo out; echo err >&2; exec sleep 100000", cwd=self.directory)
        await_true(lambda: self.content() == b"before\nout\nerr\n")
        self.assertEqual(self.writers(), [])
        self.ask("kill", "-9", child)
        self.finish(child, 137)

    def test_a_file_that_cannot_be_opened_is_told(self):
        done = self.ask("spawn", "-d", "--stdout", "/nowhere/log", "true")
        self.assertEqual(done.returncode, 125)
        self.assertIn("/nowhere/log", done.stderr)
        self.assertIn("ENOENT", done.stderr)


class RotatedFiles(FileTest):
    def numbers(self, count):
        return b"".join(b"line %06d\n" % i for i in range(count))

    def test_every_byte_is_there_in_files_of_the_size_that_end_with_lines(self):
        child = self.start("--stdout", self.log, "--rotate-size", "4096", "--rotate-count", "100",
                           PYTHON, "-c",
                           "for i in range(3000): print('line %06d' % i)")
        self.finish(child)
        names = self.logs()
        self.assertEqual(len(names), 9)
        parts = [self.content(n) for n in names]
        self.assertEqual(b"".join(parts), self.numbers(3000))
        for part in parts:
            self.assertTrue(part.endswith(b"\n"))
            self.assertLessEqual(len(part), 4096)

    def test_so_many_old_ones_are_kept(self):
        child = self.start("--stdout", self.log, "--rotate-size", "4096", "--rotate-count", "2",
                           PYTHON, "-c", "for i in range(3000): print('line %06d' % i)")
        self.finish(child)
        self.assertEqual(self.logs(), ["log.2", "log.1", "log"])
        self.assertTrue(self.numbers(3000).endswith(b"".join(map(self.content, self.logs()))))

    def test_a_line_longer_than_a_file_is_cut_and_none_of_it_is_lost(self):
        child = self.start("--stdout", self.log, "--rotate-size", "4096", "--rotate-count", "9",
                           PYTHON, "-c", "print('short'); print('x' * 10000); print('end')")
        self.finish(child)
        parts = [self.content(n) for n in self.logs()]
        self.assertEqual(b"".join(parts), b"short\n" + b"x" * 10000 + b"\nend\n")
        self.assertEqual(parts[0], b"short\n")
        self.assertEqual(len(parts[1]), 4096)

    def test_both_streams_can_go_to_one_file(self):
        child = self.start("--stdout", self.log, "--stderr", "./log", "--rotate-size", "1M",
                           "sh", "-c", "echo out; echo err >&2; echo out", cwd=self.directory)
        self.finish(child)
        self.assertEqual(self.content(), b"out\nerr\nout\n")

    def test_a_new_file_has_the_mode_of_the_one_before(self):
        with open(self.log, "wb"):
            os.chmod(self.log, 0o640)
        child = self.start("--stdout", self.log, "--rotate-size", "4096",
                           PYTHON, "-c", "print('x' * 5000)")
        self.finish(child)
        for name in ("log", "log.1"):
            mode = os.stat(os.path.join(self.directory, name)).st_mode
            self.assertEqual(stat.S_IMODE(mode), 0o640, name)

    def test_a_file_has_the_umask_of_the_caller(self):
        before = os.umask(0o077)
        try:
            child = self.start("--stdout", self.log, "--rotate-size", "4096", "true")
        finally:
            os.umask(before)
        self.finish(child)
        self.assertEqual(stat.S_IMODE(os.stat(self.log).st_mode), 0o600)

    def steered(self):
        """A child that writes a line for each that it reads from a FIFO."""
        fifo = os.path.join(self.directory, "fifo")
        os.mkfifo(fifo)
        child = self.start("--stdout", self.log, "--rotate-size", "1M", "cat", fifo)
        return child, open(fifo, "wb", 0)

    def await_content(self, expected):
        await_true(lambda: os.path.exists(self.log) and self.content() == expected)

    def test_a_writer_that_is_killed_is_started_anew_and_the_child_sees_nothing(self):
        child, steer = self.steered()
        steer.write(b"one\n")
        self.await_content(b"one\n")
        writer, = self.writers()
        end = os.pidfd_open(writer)
        os.kill(writer, signal.SIGKILL)
        wait_for_end(end)
        steer.write(b"two\n")
        self.await_content(b"one\ntwo\n")
        steer.close()
        self.finish(child)

    def test_a_file_that_is_deleted_or_moved_away_is_made_again(self):
        child, steer = self.steered()
        steer.write(b"one\n")
        self.await_content(b"one\n")
        os.unlink(self.log)
        steer.write(b"two\n")
        self.await_content(b"two\n")
        os.rename(self.log, self.log + ".old")
        writer, = self.writers()
        os.kill(writer, signal.SIGHUP)
        steer.write(b"three\n")
        self.await_content(b"three\n")
        self.assertEqual(self.content("log.old"), b"two\n")
        steer.close()
        self.finish(child)

    def test_a_writer_outlives_the_signals_that_end_a_child(self):
        child, steer = self.steered()
        steer.write(b"one\n")
        self.await_content(b"one\n")
        writer, = self.writers()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            os.kill(writer, number)
        steer.write(b"two\n")
        steer.close()
        self.finish(child)
        self.assertEqual(self.content(), b"one\ntwo\n")

    @unittest.skipUnless(os.geteuid() == 0, "needs root, to mount a small file system")
    def test_a_full_disk_is_waited_for(self):
        small = os.path.join(self.directory, "small")
        os.mkdir(small)
        self.assertEqual(os.system(f"mount -t tmpfs -o size=64k none {small}"), 0)
        self.addCleanup(os.system, f"umount -l {small}")
        ballast, log = os.path.join(small, "ballast"), os.path.join(small, "log")
        with open(ballast, "wb") as file:
            file.write(b"x" * 49152)
        child = self.start("--stdout", log, "--rotate-size", "1M",
                           PYTHON, "-c", "print('y' * 40000)")
        self.assertEqual(self.ask("wait", child).returncode, 0)  # the pipe has it
        await_true(lambda: os.stat(log).st_size >= 16384)
        os.unlink(ballast)
        await_true(lambda: os.stat(log).st_size >= 40001)
        with open(log, "rb") as file:
            self.assertEqual(file.read(), b"y" * 40000 + b"\n")
        await_true(lambda: not self.writers(small))  # else it cannot be unmounted

    def test_with_restarts_one_writer_is_for_all_of_them(self):
        child = self.start("--stdout", self.log, "--rotate-size", "1M", "--restart", "always",
                           "--restart-delay", "1ms", "--restart-max", "3", "sh", "-c", "echo $$")
        self.finish(child)
        self.assertEqual(len(set(self.content().split())), 3)

    def test_writers_are_no_children_of_anybody(self):
        child, steer = self.steered()
        listed = json.loads(self.ask("ps", "--json").stdout)
        self.assertEqual([c["child"] for c in listed], [int(child)])
        steer.close()
        self.finish(child)

    def test_what_cannot_be_meant_is_refused(self):
        os.mkfifo(os.path.join(self.directory, "fifo"))
        for arguments, why in (
                (("--stdout", self.log, "--rotate-size", "100"), "is not a size"),
                (("--rotate-size", "1M"), "are about --stdout"),
                (("--stdout", self.log, "--rotate-count", "1"), "needs --rotate-size"),
                (("--stdout", self.log, "--fd", "0:1"), "both say what standard output is"),
                (("--stdout", self.directory, "--rotate-size", "1M"), "EISDIR"),
                (("--stdout", "/dev/null", "--rotate-size", "1M"), "only a regular file"),
                (("--stdout", self.log + "x" * 248, "--rotate-size", "1M"), "too long"),
        ):
            with self.subTest(arguments):
                done = self.ask("spawn", "-d", *arguments, "true")
                self.assertEqual(done.returncode, 125, done)
                self.assertIn(why, done.stderr)


if __name__ == "__main__":
    unittest.main()
