"""Signal handlers that start processes while the resource tracker of multiprocessing starts."""

import unittest

from mp_support import Programs

# The handler runs at the first line of `function` that Python executes with the lock held.
PROGRAM = """
import os, signal, sys, threading
import cleanfork
from multiprocessing import resource_tracker, util

def nothing(): pass

def handler(*_):
    p = ctx.Process(target=nothing)
    p.start()
    p.join()
    codes.append(p.exitcode)

def interrupt(function):
    def interrupted(*args):
        module.__dict__[name] = function
        os.kill(os.getpid(), signal.SIGALRM)
        return function(*args)
    return interrupted

if __name__ == "__main__":
    codes = []
    ctx = cleanfork.get_context()
    signal.signal(signal.SIGALRM, handler)
    module, name = util, "spawnv_passfds"
    util.spawnv_passfds = interrupt(util.spawnv_passfds)
    {first}
    print(codes, resource_tracker._resource_tracker._pid is not None, threading.active_count())
"""


class AtItsFirstStart(Programs):
    def test_of_a_process(self):
        self.prints(PROGRAM.format(first="handler()"), "[0, 0] True 1")

    def test_of_a_lock(self):
        self.prints(PROGRAM.format(first="ctx.Lock()"), "[0] True 1")

    def test_of_a_queue_of_a_program_whose_start_method_it_is(self):
        self.prints(PROGRAM.format(first="""
    import multiprocessing
    multiprocessing.set_start_method("cleanfork")
    multiprocessing.Queue()
    """), "[0] True 1")

    def test_of_one_that_asked_for_forkserver(self):
        self.prints(PROGRAM.format(first="""
    import multiprocessing
    cleanfork.install()
    ctx = multiprocessing.get_context("forkserver")
    ctx.Queue()
    """), "[0] True 1")


class WhenItIsThere(Programs):
    def test_nothing_is_asked_of_it_under_its_lock(self):
        self.prints("""
            import cleanfork
            from multiprocessing import resource_tracker
            def nothing(): pass
            if __name__ == "__main__":
                ctx = cleanfork.get_context()
                ctx.Lock()
                # As a handler finds it that has come in its middle.
                with resource_tracker._resource_tracker._lock:
                    p = ctx.Process(target=nothing)
                    p.start()
                    p.join()
                    print(p.exitcode)
            """, "0")

    def test_one_that_was_killed_is_started_again(self):
        self.prints("""
            import cleanfork, os, signal, warnings
            from multiprocessing import resource_tracker
            def nothing(): pass
            if __name__ == "__main__":
                warnings.simplefilter("ignore")
                ctx = cleanfork.get_context()
                ctx.Lock()
                first = resource_tracker._resource_tracker._pid
                os.kill(first, signal.SIGKILL)
                os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
                p = ctx.Process(target=nothing)
                p.start()
                p.join()
                print(p.exitcode, resource_tracker._resource_tracker._pid != first)
            """, "0 True")


if __name__ == "__main__":
    unittest.main()
