"""Programs whose main module or directory is not what multiprocessing expects."""

import subprocess
import sys
import unittest

from mp_support import Program, Programs
from support import DEADLINE

GREETING = """
import cleanfork, os, sys
def work(q): q.put("ran")
def run():
    ctx = cleanfork.get_context()
    q = ctx.SimpleQueue()
    p = ctx.Process(target=work, args=(q,))
    p.start(); p.join()
    print(q.get() if p.exitcode == 0 else p.exitcode, flush=True)
"""


class Main(Programs):
    def test_is_run_by_the_debugger(self):
        with Program(GREETING + "if __name__ == '__main__': run()") as program:
            p = program.run("-m", "pdb", "-c", "continue", "-c", "quit", program.path,
                            stdin=subprocess.DEVNULL)
        self.assertEqual(p.stdout.splitlines()[0], "ran", p.stdout + p.stderr)

    def test_has_ended_when_atexit_starts_a_process(self):
        self.prints(GREETING + "import atexit\nif __name__ == '__main__': atexit.register(run)",
                    "ran")

    def test_has_ended_when_a_thread_starts_a_process(self):
        self.prints(GREETING + """
import threading
def late():
    threading.main_thread().join()
    run()
if __name__ == '__main__': threading.Thread(target=late).start()
""", "ran")

    def test_comes_through_a_pipe_and_its_functions_are_refused(self):
        text = """
import cleanfork
def own(x): return x
if __name__ == "__main__":
    with cleanfork.get_context().Pool(1) as pool: print(pool.map(abs, [-1]), flush=True)
    cleanfork.get_context().Process(target=own).start()
"""
        with Program(text) as program:
            p = subprocess.run(["bash", "-c", '"$0" <(cat "$1")', sys.executable, program.path],
                               timeout=DEADLINE, **program.options({}))
        self.assertEqual((p.returncode, p.stdout), (1, "[1]\n"), p.stderr)
        self.assertIn("cannot import this __main__", p.stderr)


class DirectoryIsGone(Programs):
    def test_before_the_first_process(self):
        self.prints(GREETING + """
import tempfile
if __name__ == '__main__':
    d = tempfile.mkdtemp(); os.chdir(d); os.rmdir(d)
    run()
""", "ran")

    def test_before_the_program_began(self):
        def start(*arguments, **options):
            return subprocess.run(
                ["sh", "-c", 'd=$(mktemp -d) && cd "$d" && rmdir "$d" && exec "$0" "$@"',
                 sys.executable, *arguments], timeout=DEADLINE, **options)
        with Program(GREETING + "if __name__ == '__main__': run()") as program:
            p = start(program.path, **program.options({}))
        self.assertEqual((p.returncode, p.stdout), (0, "ran\n"), p.stderr)
        # That of 3.13.0 cannot import socket there, and so is multiprocessing's tracker lost.
        if start("-c", "import socket", capture_output=True).returncode == 0:
            self.assertEqual(p.stderr, "")


if __name__ == "__main__":
    unittest.main()
