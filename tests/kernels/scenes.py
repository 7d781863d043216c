"""What is run on each kernel and under each profile: the smallest of everything.

    python3 -m unittest -v scenes

CLEANFORK_BIN has the programs, PYTHONPATH the package. CLEANFORK_FEATURES: the features that may
be there at most, in one word with commas; without the variable, any. CLEANFORK_NO_TREE: that is
in the reason for which there are no trees here.
"""

import asyncio
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.join(HERE, "../helpers"))
from orphan import ORPHAN
from patience import PATIENCE

import cleanfork
import cleanfork.asyncio
import cleanfork.subprocess

BIN = os.environ["CLEANFORK_BIN"]
COMMAND = os.path.join(BIN, "cleanfork")
TEMPLATE = os.path.join(BIN, "test-helpers", "template_program")


def square(n):
    return n * n


def put(queue, n):
    for i in range(n):
        queue.put(i)


def run(*args, **options):
    done = subprocess.run([COMMAND, *args], capture_output=True, text=True, timeout=PATIENCE,
                          stdin=subprocess.DEVNULL, **options)
    return done.returncode, done.stdout, done.stderr


class Command(unittest.TestCase):
    def test_a_program_is_run_and_its_status_told(self):
        self.assertEqual(run("spawn", "--private", "--", "sh", "-c", "echo works; exit 7"),
                         (7, "works\n", ""))

    def test_each_attribute_is_set(self):
        nicer = str(min(os.nice(0) + 1, 19))  # whatever this has been started with
        self.assertEqual(
            run("spawn", "--private", "--nice", nicer, "--umask", "077", "--rlimit", "nofile=100",
                "--chdir", "/", "--", "sh", "-c", "nice; umask; ulimit -n; pwd"),
            (0, f"{nicer}\n0077\n100\n/\n", ""))

    def test_it_runs_on_a_pseudo_terminal(self):
        self.assertEqual(run("spawn", "--private", "--pty", "--", "sh", "-c", "tty -s; echo $?"),
                         (0, "0\n", ""))

    def test_the_doctor_knows_what_is_missing(self):
        code, out, err = run("doctor", "--json")
        self.assertEqual((code, err), (0, ""), out)
        told = json.loads(out)
        features = {f["name"] for f in told["findings"]
                    if f["about"].startswith("kernel") and f["result"] == "ok"}
        print("features:", *sorted(features), file=sys.stderr)
        at_most = os.environ.get("CLEANFORK_FEATURES")
        if at_most is not None:
            self.assertLessEqual(features, set(at_most.split(",")))

    def test_a_template_is_called(self):
        with tempfile.TemporaryDirectory() as home:
            socket = os.path.join(home, "socket")
            with subprocess.Popen([COMMAND, "serve", "--socket", socket],
                                  stderr=subprocess.PIPE, text=True) as server:
                while "event=listening" not in (line := server.stderr.readline()):
                    self.assertNotEqual(line, "", "no forkserver")
                at = ("--socket", socket)
                done = run("template", "add", "t", "--warm", "1", *at, "--", TEMPLATE)
                self.assertEqual((done[0], done[2]), (0, ""))
                self.assertEqual(run("call", *at, "t", "echo", "--payload", "works"),
                                 (0, "works", ""))
                self.assertEqual(run("shutdown", *at)[0], 0)
                server.communicate(timeout=PATIENCE)
            self.assertEqual(server.returncode, 0)


class Package(unittest.TestCase):
    def setUp(self):
        self.addCleanup(cleanfork.stop)
        self.context = cleanfork.get_context()

    def test_processes_start_send_and_are_joined(self):
        queue = self.context.Queue()
        process = self.context.Process(target=put, args=(queue, 3))
        process.start()
        self.assertEqual([queue.get(timeout=PATIENCE) for _ in range(3)], [0, 1, 2])
        process.join(PATIENCE)
        self.assertEqual(process.exitcode, 0)

    def test_a_pool_maps(self):
        with self.context.Pool(2) as pool:
            self.assertEqual(pool.map(square, range(5)), [0, 1, 4, 9, 16])

    def test_a_process_is_terminated(self):
        process = self.context.Process(target=signal.pause)
        process.start()
        process.terminate()
        process.join(PATIENCE)
        self.assertEqual(process.exitcode, -signal.SIGTERM)

    def test_programs_run_as_with_subprocess(self):
        done = cleanfork.subprocess.run(["tr", "a-z", "A-Z"], input="works", text=True,
                                        capture_output=True, timeout=PATIENCE)
        self.assertEqual((done.returncode, done.stdout), (0, "WORKS"))
        with self.assertRaises(FileNotFoundError):
            cleanfork.subprocess.run(["/no/such/program"])

    def test_programs_run_as_with_asyncio(self):
        async def main():
            process = await cleanfork.asyncio.create_subprocess_exec(
                "echo", "works", stdout=asyncio.subprocess.PIPE)
            out, _ = await asyncio.wait_for(process.communicate(), PATIENCE)
            return process.returncode, out
        self.assertEqual(asyncio.run(main()), (0, b"works\n"))

    def test_a_group_is_signalled(self):
        lifetime = cleanfork.Lifetime(target="group")
        child = cleanfork.client().spawn(
            "sh", ["-c", "sleep 100000 & echo $!; wait"], stdout=subprocess.PIPE,
            lifetime=lifetime)
        with open(child.take_stdout(), "rb") as out:
            out.readline()
            child.signal_group(signal.SIGKILL)
            self.assertEqual(out.read(), b"")  # both have it open until they end
        self.assertEqual(child.wait(PATIENCE).signal, signal.SIGKILL)

    def test_descendants_that_got_away_end_with_the_tree(self):
        lifetime = cleanfork.Lifetime(target="tree")
        start = functools.partial(cleanfork.client().spawn, sys.executable, ["-c", ORPHAN],
                                  stdout=subprocess.PIPE, lifetime=lifetime)
        if reason := os.environ.get("CLEANFORK_NO_TREE"):
            print("tree: refused", file=sys.stderr)
            with self.assertRaisesRegex(cleanfork.SpawnError, reason):
                start()
            return
        child = start()
        with open(child.take_stdout(), "rb") as out:
            out.readline()
            print("tree:", child.tree, file=sys.stderr)
            child.kill_tree()
            self.assertEqual(out.read(), b"")
        self.assertEqual(child.wait(PATIENCE).signal, signal.SIGKILL)

    def test_the_loss_of_the_forkserver_invents_no_status(self):
        client = cleanfork.launch(os.path.join(BIN, "cleanforkd"))
        child = client.spawn("sh", ["-c", "read line; exit 7"], stdin=subprocess.PIPE,
                             lifetime=cleanfork.KEEP)
        os.kill(client.server["pid"], signal.SIGKILL)
        os.close(child.take_stdin())
        status = child.wait(PATIENCE)
        print("lost:", status, file=sys.stderr)
        self.assertIn(str(status), ("exited 7", "unknown: forkserver lost"))
        client.close()


if __name__ == "__main__":
    unittest.main(verbosity=2)
