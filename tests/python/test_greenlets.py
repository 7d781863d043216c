"""Programs that gevent or eventlet has patched: their other greenlets run in every wait."""

import importlib.util
import os
import unittest

from support import run_python
from shards import load_tests  # in several entries of ctest

BEGIN = """
import sys
if sys.argv[2] == "before": import cleanfork.subprocess
if sys.argv[1] == "gevent":
    from gevent import monkey; monkey.patch_all()
    import gevent as green
    begin, in_a_thread = green.spawn, green.get_hub().threadpool.apply
else:
    import eventlet as green
    green.monkey_patch()
    from eventlet import tpool
    begin, in_a_thread = green.spawn, lambda f: tpool.execute(f)
import os, signal, subprocess as standard, time
import cleanfork.subprocess as subprocess
def held():
    # Standard input that another greenlet ends: a wait that let none run would last for ever.
    r, w = os.pipe()
    def end():
        for _ in range(5):
            green.sleep(0.01)
        os.close(w)
    begin(end)
    return r
"""
SLOW = "['sh', '-c', 'cat; echo out; echo err >&2; exit 3'], stdin=held()"


# Without it eventlet asks for names when it is imported.
ENVIRONMENT = {**os.environ, "EVENTLET_NO_GREENDNS": "yes"}


class Greenlets(unittest.TestCase):
    def prints(self, program, expected):
        tried = 0
        for name in ("gevent", "eventlet"):
            if importlib.util.find_spec(name) is None:
                continue
            tried += 1
            for when in ("before", "after"):
                with self.subTest(patched_by=name, imported=when):
                    p = run_python(BEGIN + program, name, when, env=ENVIRONMENT)
                    self.assertEqual((p.returncode, p.stdout.splitlines()), (0, expected), p.stderr)
        if not tried:
            self.skipTest("neither gevent nor eventlet is installed")

    def test_run_in_a_wait_of_popen(self):
        self.prints(f"print(subprocess.Popen({SLOW}, stdout=-3, stderr=-3).wait())\n"
                    f"print(subprocess.Popen({SLOW}, stdout=-3, stderr=-3).wait(1000))\n"
                    "print(subprocess.call(['cat'], stdin=held()))\n"
                    "p = subprocess.Popen(['cat'], stdin=-1)\n"
                    "try: p.wait(0.1)\n"
                    "except standard.TimeoutExpired as e: print(e.timeout)\n"
                    "p.kill(); print(p.wait())", ["3", "3", "0", "0.1", "-9"])

    def test_run_while_a_program_is_communicated_with(self):
        self.prints(f"print(subprocess.run({SLOW}, stdout=-1).stdout)\n"
                    f"print(subprocess.run({SLOW}, capture_output=True).stderr)\n"
                    f"print(subprocess.run({SLOW}, capture_output=True, timeout=1000).stdout)\n"
                    "fd = held()\n"
                    "print(len(subprocess.run(['sh', '-c', f'cat <&{fd}; cat'], pass_fds=[fd],"
                    " stdout=-1, input=b'x' * 1000000).stdout))",
                    ["b'out\\n'", "b'err\\n'", "b'out\\n'", "1000000"])

    def test_the_exceptions_are_the_standard_modules(self):
        self.prints("for call in (lambda: subprocess.check_call(['false']),\n"
                    "             lambda: subprocess.run(['false'], check=True),\n"
                    "             lambda: subprocess.run(['sleep', '1000'], stdin=subprocess.PIPE, timeout=0)):\n"
                    "    try: call()\n"
                    "    except standard.CalledProcessError: print('failed')\n"
                    "    except standard.TimeoutExpired: print('late')\n",
                    ["failed", "failed", "late"])

    def test_in_a_thread_it_waits_as_ever(self):
        self.prints("fd = held()\nprint(in_a_thread(lambda: subprocess.run(['cat'], stdin=fd)"
                    ".returncode))", ["0"])

    def test_run_while_a_process_is_joined(self):
        self.prints("import cleanfork\n"
                    "p = cleanfork.get_context().Process(target=exec, stdin=held(),"
                    " args=('import sys; sys.stdin.read()',))\n"
                    "p.start(); p.join(); print(p.exitcode)", ["0"])

    def test_many_greenlets_have_a_program_each(self):
        self.prints("r, w = os.pipe()\n"
                    "def run(i): return subprocess.run(['sh', '-c', f'cat; exit {i}'], stdin=r).returncode\n"
                    "all = [begin(run, i) for i in range(10)]\n"
                    "green.sleep(0.1)\nos.close(w)\n"
                    "print([g.get() if hasattr(g, 'get') else g.wait() for g in all])",
                    [f"{list(range(10))}"])


if __name__ == "__main__":
    unittest.main()
