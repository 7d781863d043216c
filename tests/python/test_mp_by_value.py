"""get_context(pickler=...): closures as targets, tasks, arguments and results."""

import unittest

from mp_support import Program, Programs

try:
    import cloudpickle
except ImportError:
    cloudpickle = None


class NotInstalled(Programs):
    def test_the_package_that_is_missing_is_named(self):
        self.fails("""
            import cleanfork
            cleanfork.get_context(pickler="no_such_pickler")
            """, "ModuleNotFoundError", "the package no_such_pickler is not installed",
                   "pip install no_such_pickler")

    def test_a_module_that_is_no_pickler_is_refused(self):
        self.fails("""
            import cleanfork
            cleanfork.get_context(pickler="string")
            """, "TypeError", "has no Pickler and loads()")

    def test_without_it_the_error_names_the_option(self):
        self.fails("""
            import cleanfork
            if __name__ == "__main__":
                cleanfork.get_context().Process(target=lambda: 1).start()
            """, "get_context(pickler='cloudpickle')")


@unittest.skipUnless(cloudpickle, "python3-cloudpickle is not installed")
class Closures(Programs):
    def test_are_targets_with_locks_and_pipes_in_them(self):
        self.prints("""
            import cleanfork
            if __name__ == "__main__":
                ctx = cleanfork.get_context(pickler="cloudpickle")
                ours, theirs = ctx.Pipe()
                lock, factor = ctx.Lock(), 3
                def work(x):
                    with lock:
                        theirs.send(factor * x)
                p = ctx.Process(target=lambda: work(7))
                p.start()
                print(ours.recv())
                p.join()
                print(p.exitcode)
            """, "21 0")

    def test_are_tasks_and_results_of_pools_and_executors(self):
        self.prints("""
            import cleanfork
            from concurrent.futures import ProcessPoolExecutor
            def adder(n):
                return lambda x: x + n
            if __name__ == "__main__":
                ctx = cleanfork.get_context(pickler="cloudpickle")
                n = 5
                with ctx.Pool(1) as pool:
                    print(pool.map(lambda x: x * n, [1, 2]), pool.apply(adder, (1,))(2))
                with ProcessPoolExecutor(1, mp_context=ctx) as executor:
                    print(list(executor.map(lambda x: x - n, [1])))
                    print(executor.submit(adder, 10).result()(2))
            """, "[5, 10] 3 [-4] 12")

    def test_what_the_main_module_defines_goes_by_its_name(self):
        # A copy of the large thing would have to be pickled, and cannot.
        self.prints("""
            import cleanfork, threading
            LARGE = threading.Lock()
            class Answer: pass
            def helper(): return LARGE is not None and Answer()
            if __name__ == "__main__":
                class Guarded:
                    value = 4
                def guarded(): return Guarded()
                ctx = cleanfork.get_context(pickler="cloudpickle")
                with ctx.Pool(1) as pool:
                    print(type(pool.apply(lambda: helper())) is Answer)
                    print(type(pool.apply(guarded)) is Guarded, pool.apply(guarded).value)
            """, "True True 4")

    def test_of_a_program_that_has_no_file(self):
        self.prints("""
            import subprocess, sys
            code = '''
            import cleanfork
            class Named: pass
            def work(): return Named()
            ctx = cleanfork.get_context(pickler="cloudpickle")
            with ctx.Pool(1) as pool: print(type(pool.apply(work)) is Named)
            '''.replace(" " * 12, "")
            if __name__ == "__main__":
                print(subprocess.run([sys.executable, "-c", code], check=True,
                                     stdout=subprocess.PIPE, text=True).stdout)
            """, "True")

    def test_of_an_unchanged_program_and_of_processes_of_its_processes(self):
        text = """
            import multiprocessing
            def nested(x):
                with multiprocessing.Pool(1) as pool:
                    return pool.apply(lambda: x + 1)
            def start(x):
                ours, theirs = multiprocessing.Pipe()
                p = multiprocessing.Process(target=lambda: theirs.send(nested(x)))
                p.start()
                print(ours.recv())
                p.join()
            if __name__ == "__main__":
                start(1)
            """
        with Program(text) as program:
            p = program.run("-m", "cleanfork", "--pickler", "cloudpickle", program.path)
            self.assertEqual((p.returncode, p.stdout), (0, "2\n"), p.stderr)


if __name__ == "__main__":
    unittest.main()
