"""python3 -m cleanfork: unchanged programs, in every shape that python3 takes."""

import os
import py_compile
import unittest
import zipfile

from mp_support import Program, Programs


class Runner(Programs):
    UNCHANGED = """
        import multiprocessing, os, sys, threading
        def double(x):
            return 2 * x
        def nested(x):
            with multiprocessing.Pool(1) as pool:
                return pool.apply(double, (x,))
        if __name__ == "__main__":
            with multiprocessing.Pool(2) as pool:
                print(pool.map(double, [1, 2]), sys.argv[1:], os.path.basename(__file__))
            p = multiprocessing.Process(target=nested, args=(4,))
            p.start()
            p.join()
            print(p.exitcode, type(p._popen).__module__)
            with multiprocessing.get_context("forkserver").Pool(1) as pool:
                print(pool.map(double, [3]), "cleanfork" in type(pool._pool[0]._popen).__module__)
            def late():
                threading.main_thread().join()
                q = multiprocessing.get_context("forkserver").Process(target=double, args=(1,))
                q.start(); q.join(); print("late", q.exitcode)
            threading.Thread(target=late).start()
        """

    def test_unchanged_programs(self):
        expected = "[2, 4] ['an', '-m', 'argument'] program.py 0 cleanfork._mp.popen [6] True late 0"
        with Program(self.UNCHANGED) as program:
            for how in (["program.py"], ["-m", "program"], ["--warm", "2", "program.py"],
                        ["--preload", "json", "--preload", "csv", program.path]):
                p = program.run("-m", "cleanfork", *how, "an", "-m", "argument")
                self.assertEqual((p.returncode, p.stdout.split()), (0, expected.split()), p.stderr)

    # What a program can see of how it was started, and what comes back from its processes.
    SHAPE = """
import multiprocessing, os, sys
class Answer: pass
def work(): return Answer()
if __name__ == "__main__":
    main = sys.modules["__main__"]
    seen = {k: v for k, v in vars(main).items() if k.startswith("__")}
    loader = seen.pop("__loader__")
    print(getattr(loader, "__name__", type(loader).__name__), sys.argv, sys.path[0])
    for name in ("__builtins__", "__spec__", "__cached__"):
        seen.pop(name, None)
    print(sorted(seen.items()), getattr(main.__spec__, "name", None), getattr(main.__spec__, "origin", None))
    if os.path.exists(vars(main).get("__file__", "")) and not main.__spec__ or getattr(main.__spec__, "name", "") == "program":
        with multiprocessing.get_context("forkserver").Pool(1) as pool:
            print(type(pool.apply(work)) is Answer)
"""

    def test_every_shape_of_a_program_is_as_under_python3(self):
        with Program(self.SHAPE) as program:
            d = program.directory.name
            program.write(self.SHAPE)
            compiled = py_compile.compile(program.path, os.path.join(d, "compiled.pyc"))
            folder, archive = os.path.join(d, "folder"), os.path.join(d, "archive.pyz")
            os.mkdir(folder)
            os.link(program.path, os.path.join(folder, "__main__.py"))
            with zipfile.ZipFile(archive, "w") as z:
                z.write(program.path, "__main__.py")
            for command, options in (
                    (["program.py", "a"], {}), (["./program.py"], {}), ([program.path, "-m", "a"], {"cwd": "/"}),
                    ([compiled, "a"], {}), (["-m", "program", "-c", "a"], {}),
                    (["-mprogram"], {}), (["-c", self.SHAPE, "-m"], {}), (["-c" + self.SHAPE], {}),
                    (["-", "a", "--warm"], {"input": self.SHAPE}), ([], {"input": self.SHAPE}),
                    ([folder, "a"], {"cwd": "/"}), ([archive, "a"], {"cwd": "/"}),
                    (["no such file"], {}), (["-m", "no_such_module"], {})):
                with self.subTest(command):
                    plain = program.run(*command or ["-u"], **options)
                    ours = program.run("-m", "cleanfork", "--warm", "0", *command, **options)
                    self.assertEqual((ours.returncode, ours.stdout), (plain.returncode, plain.stdout),
                                     ours.stderr)
                    if plain.returncode:
                        self.assertEqual(ours.stderr, plain.stderr)

    def test_programs_that_fail_fail(self):
        with Program("import sys; sys.exit(7)") as program:
            self.assertEqual(program.run("-m", "cleanfork", "program.py").returncode, 7)
            program.write("1/0")
            p = program.run("-m", "cleanfork", "program.py")
            self.assertEqual(p.returncode, 1)
            self.assertIn("ZeroDivisionError", p.stderr)
            self.assertIn("program.py", p.stderr)


if __name__ == "__main__":
    unittest.main()
