"""Whole programs: how they are started, what a template is made of, and what is said when it fails."""

import os
import subprocess
import sys
import tempfile
import unittest
import zipfile

import cleanfork
from mp_support import Program, Programs, run_program
from support import DEADLINE, PYTHON

# Prints "imported" in each process that runs the module, and the name it has there.
GUARDED = """
import os, sys
print("imported", __name__, flush=True)
import cleanfork, multiprocessing
def work(x):
    print("work", x, flush=True)
    sys.exit(x)
if __name__ == "__main__":
    ctx = cleanfork.get_context({options})
    for code in (3, 4):
        p = ctx.Process(target=work, args=(code,))
        p.start()
        p.join()
        print("code", p.exitcode, flush=True)
"""
TWO = "work 3 code 3 work 4 code 4"


class HowItIsStarted(Programs):
    def test_script(self):
        # What the template prints goes to the forkserver: none of it is a child's.
        self.prints(GUARDED.format(options=""), "imported __main__ " + TWO)

    def test_without_the_main_module_each_child_imports_it(self):
        self.prints(GUARDED.format(options="main=False"),
                    "imported __main__ imported __mp_main__ work 3 code 3 "
                    "imported __mp_main__ work 4 code 4")

    def test_module(self):
        with Program(GUARDED.format(options=""), "amodule.py") as program:
            p = program.run("-m", "amodule")
            self.assertEqual(p.stdout.split(), ("imported __main__ " + TWO).split(), p.stderr)

    def test_standard_input_and_command_run_what_can_be_imported(self):
        code = ("import cleanfork, os, sys\n"
                "p = cleanfork.get_context().Process(target=os._exit, args=(9,))\n"
                "p.start(); p.join(); print(p.exitcode)\n")
        for command, options in ((["-c", code], {}), (["-"], {"input": code}), ([], {"input": code}),
                                 (["-i"], {"input": code})):
            p = subprocess.run([PYTHON, *command], capture_output=True, text=True,
                               timeout=DEADLINE, **options)
            self.assertEqual(p.stdout, "9\n", p.stderr)

    def test_and_say_what_cannot(self):
        code = ("import cleanfork\n"
                "def work(): pass\n"
                "cleanfork.get_context().Process(target=work).start()\n")
        for command, options in ((["-c", code], {}), (["-"], {"input": code})):
            p = subprocess.run([PYTHON, *command], capture_output=True, text=True,
                               timeout=DEADLINE, **options)
            self.assertIn("cannot pickle target", p.stderr)
            self.assertIn("define it in a module that can be imported", p.stderr)

    def test_directory_and_archive(self):
        main = ("import cleanfork, worker\n"
                "p = cleanfork.get_context().Process(target=worker.work)\n"
                "p.start(); p.join(); print(p.exitcode)\n")
        with Program(main, "__main__.py") as program:
            with open(os.path.join(program.directory.name, "worker.py"), "w") as f:
                f.write("import sys\ndef work(): sys.exit(5)\n")
            archive = os.path.join(program.directory.name, "archive.pyz")
            with zipfile.ZipFile(archive, "w") as z:
                for name in ("__main__.py", "worker.py"):
                    z.write(os.path.join(program.directory.name, name), name)
            for how in ([program.directory.name], [archive], ["-m", "cleanfork", archive],
                        ["-m", "cleanfork", program.directory.name]):
                p = program.run(*how, cwd="/")
                self.assertEqual(p.stdout, "5\n", p.stderr)

    def test_the_package_is_found_where_the_program_found_it(self):
        home = os.path.dirname(os.path.dirname(os.path.abspath(cleanfork.__file__)))
        self.prints(f"""
            import sys
            sys.path.append({home!r})
            import cleanfork
            def work():
                import subprocess  # the standard one, not that of the package
                sys.exit(0 if subprocess.__name__ == "subprocess" else 1)
            if __name__ == "__main__":
                p = cleanfork.get_context().Process(target=work)
                p.start()
                p.join()
                print(p.exitcode)
            """, "0", env={"PYTHONPATH": ""})

    FINDS_ITSELF = """
        import sys
        sys.path.append({home!r})
        import cleanfork
        def work(): return tuple(sys.flags), sys.path
        if __name__ == "__main__":
            with cleanfork.get_context().Pool(1) as pool:
                print(pool.apply(work) == work())
        """

    def test_nor_do_the_interpreters_flags_hide_it(self):
        home = os.path.dirname(os.path.dirname(os.path.abspath(cleanfork.__file__)))
        with Program(self.FINDS_ITSELF.format(home=home)) as program:
            since_3_11 = ("-P",) if sys.version_info >= (3, 11) else ()
            for flags in ("-I", "-E", "-s", "-S", "-IS", *since_3_11):
                p = program.run(flags, program.path, env={"PYTHONPATH": ""})
                self.assertEqual(p.stdout, "True\n", flags + p.stderr)

    def test_a_file_in_the_working_directory_is_no_module_of_it(self):
        with Program("""
            import cleanfork, sys
            def work(): sys.exit(3)
            if __name__ == "__main__":
                p = cleanfork.get_context().Process(target=work)
                p.start(); p.join(); print(p.exitcode)
            """) as program, tempfile.TemporaryDirectory() as directory:
            for name in ("json", "typing", "signal", "subprocess", "pickle", "_mp", "cleanfork"):
                with open(os.path.join(directory, name + ".py"), "w") as f:
                    f.write("raise SystemExit('the wrong module')\n")
            p = program.run(cwd=directory)
            self.assertEqual(p.stdout, "3\n", p.stderr)

    def test_its_path_and_arguments_may_be_anything(self):
        with Program("""
            import cleanfork, pathlib, sys
            imported_with = sys.argv[:], sys.path[:]
            def work(): return imported_with == (sys.argv, sys.path), imported_with
            if __name__ == "__main__":
                sys.path += [pathlib.Path("extra")] + ["/a/long/path" * 100] * 200
                with cleanfork.get_context().Pool(1) as pool:
                    print(pool.apply(work) == (True, (sys.argv, sys.path)))
            """) as program:
            p = program.run(program.path, *["x" * 100] * 2000, "\udcff")
            self.assertEqual(p.stdout, "True\n", p.stderr)

    def test_start_method_by_name(self):
        self.prints("""
            import multiprocessing, cleanfork
            def work(q):
                q.put(multiprocessing.get_start_method())
            if __name__ == "__main__":
                multiprocessing.set_start_method("cleanfork")
                q = multiprocessing.Queue()
                p = multiprocessing.Process(target=work, args=(q,))
                p.start()
                print(q.get(), type(p._popen).__module__)
                p.join()
            """, "cleanfork cleanfork._mp.popen")

    def test_install_serves_forkserver(self):
        self.prints("""
            import multiprocessing, cleanfork
            def work(q):
                q.put(multiprocessing.get_start_method())
            if __name__ == "__main__":
                cleanfork.install()
                ctx = multiprocessing.get_context("forkserver")
                q = ctx.Queue()
                p = ctx.Process(target=work, args=(q,))
                p.start()
                print(type(p._popen).__module__, p._popen.method)
                p.join()
                print(p.exitcode)
            """, "cleanfork._mp.drop_in forkserver 0")

class TheName(Programs):
    def test_a_context_by_its_name_is_the_context_whichever_came_first(self):
        for imports in ("import cleanfork, multiprocessing", "import multiprocessing, cleanfork"):
            with self.subTest(imports):
                self.prints(imports + """
                    ctx = multiprocessing.get_context("cleanfork")
                    print(isinstance(ctx, multiprocessing.context.BaseContext),
                          ctx.get_context() is ctx is cleanfork.get_context(), ctx.get_start_method())
                    try:
                        multiprocessing.get_context("another")
                    except ValueError:
                        print("refused")
                """.replace("\n                    ", "\n"), "True True cleanfork refused")


class WhatIsSaid(Programs):
    def start(self, text, options="", before=""):
        return (f"import cleanfork\n{before}\ndef work(): pass\n"
                "if __name__ == '__main__':\n"
                f"    ctx = cleanfork.get_context({options})\n    {text}\n")

    def test_pickling_names_the_object_and_the_way_out(self):
        for text, told in (
                ("ctx.Process(target=lambda: 1).start()",
                 ("cannot pickle target", "function __main__.<lambda>", "at module level")),
                ("ctx.Process(target=work, args=(1, {'a': [2, open('/dev/null')]})).start()",
                 ("args[1]['a'][1]", "/dev/null", "make it in the process")),
                ("ctx.Process(target=work, kwargs={'x': __import__('threading').Lock()}).start()",
                 ("kwargs['x']", "_thread.lock")),
                ("p = ctx.Process(target=work); p.attribute = (i for i in []); p.start()",
                 ("attribute", "generator object"))):
            with self.subTest(text):
                self.fails(self.start(text), *told)

    def test_what_can_be_caught_goes_on_to_be(self):
        self.prints("""
            import cleanfork, pickle
            if __name__ == "__main__":
                for target, error in ((lambda: 1, (AttributeError, pickle.PicklingError)),
                                      (iter([]).__next__, ())):
                    try:
                        cleanfork.get_context().Process(target=target).start()
                        print("started")
                    except error:
                        print("caught")
            """, "caught started")

    def test_the_guard(self):
        for start in ("ctx.Process(target=work).start()", "ctx.Pool(1)", "ctx.start()"):
            with self.subTest(start):
                self.fails(f"import cleanfork\ndef work(): pass\nctx = cleanfork.get_context()\n{start}\n",
                           "if __name__ == '__main__':", start)

    def test_a_daemon_that_is_missing(self):
        self.fails(self.start("ctx.Process(target=work).start()"), "/no/cleanforkd",
                   "CLEANFORK_DAEMON", env={"CLEANFORK_DAEMON": "/no/cleanforkd"})

    def test_a_preload_that_raises(self):
        with Program(self.start("ctx.start()", "preload=['broken']")) as program:
            with open(os.path.join(program.directory.name, "broken.py"), "w") as f:
                f.write("def fail():\n    raise OSError('a reason')\nfail()\n")
            p = program.run()
            self.assertEqual(p.returncode, 1)
            for each in ("broken.py", "in fail", "OSError: a reason", "did not start"):
                self.assertIn(each, p.stderr)
            self.assertEqual(p.stderr.count("OSError: a reason"), 1)
        self.fails(self.start("ctx.start()", "preload=['no_such']"), "No module named 'no_such'")

    THREAD = ("import threading\nif __name__ != '__main__':\n"
              "    threading.Thread(target=threading.Event().wait, daemon=True).start()")
    SOCKET = "import socket\nkept = socket.socketpair() if __name__ != '__main__' else ()"

    def test_threads_and_sockets_of_a_template(self):
        self.fails(self.start("ctx.start()", before=self.THREAD), "1 extra thread", "not clean",
                   "if __name__ == '__main__'")
        self.fails(self.start("ctx.start()", before=self.SOCKET), "socket", "not clean",
                   "is <socket.socket fd=", ", __main__.kept")
        p = run_program(self.start("ctx.start()", before="import tracemalloc\n" + self.SOCKET),
                        env={"PYTHONTRACEMALLOC": "5"})
        self.assertRegex(p.stderr, r"kept, made in .*socket\.py:|kept, made in .*program\.py:")

    @unittest.skipIf(os.geteuid() != 0, "needs a mount namespace")
    def test_without_proc_it_is_not_known_to_be_clean(self):
        text = self.start("p = ctx.Process(target=work); p.start(); p.join(); print(p.exitcode)",
                          "unclean=__import__('sys').argv[1]")
        with Program(text) as program:
            hidden = ["unshare", "-m", "--propagation", "private", "sh", "-c",
                      'mount -t tmpfs none /proc && exec "$@"', "sh", PYTHON, program.path]
            said = "no /proc to see its threads and descriptors in"
            p = subprocess.run([*hidden, "refuse"], capture_output=True, text=True, timeout=DEADLINE)
            self.assertIn(f"{said}; mount it, or say unclean='warn'", p.stderr)
            p = subprocess.run([*hidden, "warn"], capture_output=True, text=True, timeout=DEADLINE)
            self.assertEqual(p.stdout, "0\n", p.stderr)
            self.assertIn(said, p.stderr)

    def test_under_the_debugger(self):
        with Program("""
                import cleanfork
                def work(x): return x + 1
                if __name__ == "__main__":
                    with cleanfork.get_context().Pool(1) as pool: print("got", pool.map(work, [1]))
                """) as program:
            p = program.run("-m", "pdb", "-c", "continue", "-c", "quit", program.path,
                            stdin=subprocess.DEVNULL)
            self.assertIn("got [2]", p.stdout, p.stderr)

    def test_by_choice_they_are_a_warning(self):
        text = "p = ctx.Process(target=work); p.start(); p.join(); print(p.exitcode)"
        for before, named in ((self.THREAD, "1 extra thread"), (self.SOCKET, "socket")):
            p = self.prints(self.start(text, "unclean='warn'", before), "0")
            self.assertIn("RuntimeWarning", p.stderr)
            self.assertIn(named, p.stderr)

    def test_after_it_was_mended_it_works(self):
        with Program("""
            import cleanfork, os
            def work(): pass
            if __name__ == "__main__":
                ctx = cleanfork.get_context(preload=["mended"])
                try:
                    ctx.start()
                except RuntimeError:
                    print("failed")
                with open("mended.py", "w"):
                    pass
                p = ctx.Process(target=work)
                p.start(); p.join(); print(p.exitcode)
            """) as program:
            p = program.run()
            self.assertEqual(p.stdout.split(), ["failed", "0"], p.stderr)


if __name__ == "__main__":
    unittest.main()
