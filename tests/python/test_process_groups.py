"""Which process group a process is in, and that its end does the program no harm."""

import os
import unittest

from mp_support import Program
from support import DEADLINE

# Says in which group a process and a subprocess were; with one of the program's own group stopped.
PROGRAM = """
import os, signal
import cleanfork
import cleanfork.subprocess as subprocess

def group(q): q.put(os.getpgrp())

if __name__ == "__main__":
    own, stopped = os.getpgrp(), os.fork()
    if stopped == 0:
        signal.pause()
    os.kill(stopped, signal.SIGSTOP)
    os.waitpid(stopped, os.WUNTRACED)
    ctx = cleanfork.get_context()
    q = ctx.SimpleQueue()
    p = ctx.Process(target=group, args=(q,))
    p.start()
    p.join()
    sub = subprocess.run(["sh", "-c", "cut -d' ' -f5 /proc/self/stat"], text=True,
                         capture_output=True)
    print(q.get() == own, int(sub.stdout) == own, flush=True)
    os.kill(stopped, signal.SIGKILL)
    os.waitpid(stopped, 0)
    print("survived", flush=True)
"""


class Groups(unittest.TestCase):
    def run_as(self, expected, **how):
        with Program(PROGRAM) as program:
            p = program.start(**how)
            out, err = p.communicate(timeout=DEADLINE)
            self.assertEqual((p.returncode, out.split()), (0, expected.split()), err)

    def test_of_a_job_it_is_the_program_s(self):
        # The parent, this test, is outside of the group and in its session, as a shell is.
        self.run_as("True True survived", preexec_fn=os.setpgrp)

    def test_of_a_service_it_is_its_own_and_nobody_is_hung_up(self):
        self.run_as("False False survived", start_new_session=True)


if __name__ == "__main__":
    unittest.main()
