"""Whole programs: how they are started, what a template is made of, and what is said when it fails."""

import os
import py_compile
import subprocess
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
            for flags in ("-I", "-E", "-s", "-S", "-P", "-IS"):
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
                print(q.get(timeout=20), type(p._popen).__module__)
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


class Templates(Programs):
    def test_one_for_all_levels(self):
        self.prints("""
            import os, cleanfork
            def work(q, depth):
                ctx = cleanfork.get_context()
                if depth:
                    p = ctx.Process(target=work, args=(q, depth - 1))
                    p.start()
                    p.join()
                c = cleanfork.client()
                q.put((c.server["pid"], len(c.templates())))
            if __name__ == "__main__":
                q = cleanfork.get_context().SimpleQueue()
                work(q, 3)
                print(*{q.get() for _ in range(4)} == {(cleanfork.client().server["pid"], 1)} and
                      ["one"] or ["more"])
            """, "one")

    def test_an_edited_main_module_gets_a_new_one(self):
        with Program("""
            import cleanfork, sys
            def work():
                sys.exit(1)
            if __name__ == "__main__":
                ctx = cleanfork.get_context()
                for _ in range(3):
                    p = ctx.Process(target=work)
                    p.start()
                    p.join()
                    print(p.exitcode, flush=True)
                    sys.stdin.readline()
            """) as program:
            p = program.start(stdin=subprocess.PIPE)
            self.assertEqual(p.stdout.readline(), "1\n")
            with open(program.path) as f:
                text = f.read()
            program.write(text.replace("sys.exit(1)", "sys.exit(22)"))
            p.stdin.write("\n")
            p.stdin.flush()
            self.assertEqual(p.stdout.readline(), "22\n")
            p.communicate("\n\n", timeout=DEADLINE)

    def test_reload(self):
        with Program("""
            import cleanfork, helper
            def work():
                helper.work()
            if __name__ == "__main__":
                ctx = cleanfork.get_context(preload=["helper"])
                def run():
                    p = ctx.Process(target=work)
                    p.start()
                    p.join()
                    print(p.exitcode)
                run()
                with open("helper.py", "w") as f:
                    f.write("import sys; work = lambda: sys.exit(2)    # another size")
                run()
                ctx.reload()
                run()
            """) as program:
            with open(os.path.join(program.directory.name, "helper.py"), "w") as f:
                f.write("import sys; work = lambda: sys.exit(1)")
            p = program.run()
            self.assertEqual(p.stdout.split(), ["1", "1", "2"], p.stderr)

    def test_a_forkserver_that_is_lost_in_its_imports_is_replaced(self):
        with Program("""
            import cleanfork
            def work():
                pass
            if __name__ == "__main__":
                ctx = cleanfork.get_context(preload=["once"])
                p = ctx.Process(target=work)
                p.start()
                p.join()
                print(p.exitcode)
            """) as program:
            with open(os.path.join(program.directory.name, "once.py"), "w") as f:
                f.write("import os, signal\n"
                        "if not os.path.exists('been_here'):\n"
                        "    open('been_here', 'x').close()\n"
                        "    os.kill(os.getppid(), signal.SIGKILL)\n")
            p = program.run()
            self.assertEqual(p.stdout, "0\n", p.stderr)
            self.assertIn("been_here", os.listdir(program.directory.name))

    def test_preload_as_of_the_standard_context(self):
        self.prints("""
            import multiprocessing, sys, cleanfork
            def work():
                sys.exit("colorsys" in sys.modules)
            if __name__ == "__main__":
                multiprocessing.set_start_method("cleanfork")
                for names in [], ["colorsys"]:
                    multiprocessing.get_context().set_forkserver_preload(names)
                    p = multiprocessing.Process(target=work)
                    p.start(); p.join(); print(p.exitcode)
            """, "0 1")

    def test_a_lock_at_module_level(self):
        self.prints("""
            import cleanfork
            ctx = cleanfork.get_context()
            lock, queue, event = ctx.Lock(), ctx.Queue(), ctx.Event()
            def work(theirs):
                with lock, theirs:
                    print("locked", flush=True)
            if __name__ == "__main__":
                p = ctx.Process(target=work, args=(lock,))
                p.start(); p.join(); print(p.exitcode)
            """, "locked 0")


class WhatImportsSetUp(Programs):
    """It is there in the children, as a spawn's own imports would leave it."""

    # Of signals: what Python says, and what the kernel does.
    SIGNALS = """
import cleanfork, os, signal, sys
def told():
    with open("/proc/self/status") as f:
        masks = {k: int(v, 16) for k, _, v in (line.partition(":\t") for line in f) if k.startswith("Sig") and k != "SigQ"}
    for s in signal.valid_signals():
        handler, bit = signal.getsignal(s), 1 << s - 1
        kernel = signal.SIG_IGN if masks["SigIgn"] & bit else 1 if masks["SigCgt"] & bit else signal.SIG_DFL
        if handler != kernel and not (kernel == 1 and (handler is None or callable(handler))):
            yield f"{s}: {handler} {kernel}"
        if handler != signal.SIG_DFL:
            yield signal.Signals(s).name + (getattr(handler, "__name__", "") if callable(handler) else "-" if handler == signal.SIG_IGN else "?")
def handler(*_): pass
def work():
    return sorted(told())
def once():
    with cleanfork.get_context({options}).Pool(1) as pool:
        return pool.apply(work)
"""
    FRESH = ["SIGINTdefault_int_handler", "SIGPIPE-", "SIGXFSZ-"]

    def signals(self, expected, imports="", program="print(once())", options=""):
        text = (self.SIGNALS.replace("{options}", options) + imports
                + "\nif __name__ == '__main__':\n    " + program.replace("\n", "\n    "))
        p = run_program(text)
        self.assertEqual(p.stdout, "".join(f"{sorted(each)}\n" for each in expected), p.stderr)

    def test_handlers_and_what_is_ignored(self):
        for warm in ("warm=0", "warm=1"):
            self.signals([[*self.FRESH, "SIGUSR1handler", "SIGUSR2-", "SIGCHLDhandler"]],
                         "for s in signal.SIGUSR1, signal.SIGCHLD: signal.signal(s, handler)\n"
                         "signal.signal(signal.SIGUSR2, signal.SIG_IGN)", options=warm)

    def test_handlers_of_sigint_and_defaults(self):
        self.signals([["SIGINThandler", "SIGXFSZ-"]],
                     "signal.signal(signal.SIGINT, handler)\n"
                     "signal.signal(signal.SIGPIPE, signal.SIG_DFL)")
        self.signals([["SIGINT-", "SIGPIPE-", "SIGXFSZ-"]],
                     "signal.signal(signal.SIGINT, signal.SIG_IGN)")

    def test_signals_that_the_program_ignores_by_now(self):
        program = ("signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
                   "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
                   "signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
                   "signal.signal(signal.SIGUSR1, signal.SIG_IGN)\n"
                   "print(once())\n"
                   "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
                   "signal.signal(signal.SIGCHLD, signal.SIG_DFL)\n"
                   "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
                   "print(once())")
        for imports in ("signal.signal(signal.SIGUSR1, handler)",
                        "assert signal.signal(signal.SIGUSR1, handler) == signal.getsignal(signal.SIGHUP)"
                        " or __name__ == '__main__'"):
            self.signals([["SIGPIPE-", "SIGXFSZ-", "SIGHUP-", "SIGCHLD-", "SIGINT-", "SIGUSR1handler"],
                          [*self.FRESH, "SIGUSR1handler"]], imports, program)

    def test_a_handler_is_called(self):
        self.prints("""
            import cleanfork, signal
            def handler(*_): print("handled", flush=True)
            signal.signal(signal.SIGUSR1, handler)
            if __name__ == "__main__":
                p = cleanfork.get_context().Process(target=signal.raise_signal, args=(signal.SIGUSR1,))
                p.start(); p.join(); print(p.exitcode)
            """, "handled 0")

    def test_variables_unless_the_program_has_changed_them_since(self):
        self.prints("""
            import cleanfork, os
            if __name__ != "__main__":
                os.environ["SET"] = "by the import"
                os.environ["CHANGED"] = "by the import"
                del os.environ["DELETED"]
                os.environ["TZ"] = "XYZ-3"
            def work():
                import time
                print(*(os.environ.get(n) for n in ("SET", "CHANGED", "DELETED")), time.strftime("%z"),
                      sep="|", flush=True)
            if __name__ == "__main__":
                os.environ.update(CHANGED="first", DELETED="not")
                ctx = cleanfork.get_context()
                def run(**options):
                    p = ctx.Process(target=work, **options); p.start(); p.join()
                run()
                os.environ.update(SET="by me", DELETED="no more")
                run()
                run(env={"CHANGED": "first", "TZ": "UTC0"})
            """, "by the import|by the import|None|+0300 by me|by the import|no more|+0300 "
                 "None|first|None|+0000")


class FilesOfTheImports(Programs):
    """What the main module opens when it is imported, each child has as if it had opened it."""

    def test_each_child_reads_from_where_the_imports_stood(self):
        self.prints("""
            import cleanfork, os, tempfile
            if __name__ == "__main__":
                with open("data", "w") as f: f.write("0123456789")
            data = open("data", "rb", buffering=0)
            data.read(2)
            fd = os.memfd_create("index")
            os.write(fd, b"an index")
            devices = open("/dev/null", "rb"), os.open("/", os.O_RDONLY)
            def work(q):
                q.put((data.read(5), os.pread(fd, 9, 0), devices[0].read(), "dev" in os.listdir(devices[1]),
                       os.get_inheritable(data.fileno())))
            if __name__ == "__main__":
                for warm in 0, 1:
                    ctx = cleanfork.get_context(warm=warm)
                    q = ctx.SimpleQueue()
                    for _ in range(2):
                        p = ctx.Process(target=work, args=(q,)); p.start(); p.join()
                        print(q.get() == (b"23456", b"an index", b"", True, False))
            """, "True " * 4)

    def test_logs_get_every_line_and_nothing_else(self):
        self.prints("""
            import cleanfork, logging, os
            logs = [open(f"log{i}", "a", buffering=1) for i in range(60)]
            logging.basicConfig(filename="log")
            def work(q, event, i):
                other = open("other", "a")
                for log in logs: print("line", i, file=log)
                logging.warning("logged %d", i)
                event.wait()
                q.put(os.fstat(other.fileno()).st_size)
            if __name__ == "__main__":
                ctx = cleanfork.get_context()
                q, event = ctx.Queue(), ctx.Event()
                ps = [ctx.Process(target=work, args=(q, event, i)) for i in range(3)]
                for p in ps: p.start()
                event.set()
                print([q.get(timeout=20) for p in ps])
                for p in ps: p.join(); print(p.exitcode)
                print({tuple(sorted(open(log.name))) for log in logs} == {("line 0\\n", "line 1\\n", "line 2\\n")},
                      sorted(line[-2] for line in open("log")))
            """, "[0, 0, 0] 0 0 0 True ['0', '1', '2']")

    def test_what_must_not_be_shared_fails_loudly_by_choice(self):
        self.prints("""
            import cleanfork, os, socket
            if __name__ != "__main__":
                kept = socket.socketpair(), os.pipe()
            def work(q):
                sockets, pipe = kept
                for use in (lambda: sockets[0].send(b"x"), lambda: os.write(pipe[1], b"x"),
                            lambda: os.read(pipe[0], 1)):
                    try: q.put(use())
                    except OSError as e: q.put(e.errno)
            if __name__ == "__main__":
                ctx = cleanfork.get_context(unclean="warn")
                q = ctx.SimpleQueue()
                p = ctx.Process(target=work, args=(q,)); p.start()
                print(*(q.get() for _ in range(3))); p.join(); print(p.exitcode)
            """, "9 9 9 0")

    def test_a_number_that_is_asked_for_is_the_callers(self):
        self.prints("""
            import cleanfork, os
            data = open("/etc/passwd")
            def number(): os._exit(data.fileno())
            def same(): os._exit(os.path.sameopenfile(data.fileno(), os.open("/", os.O_RDONLY)))
            if __name__ == "__main__":
                def run(target, **options):
                    p = cleanfork.get_context().Process(target=target, **options)
                    p.start(); p.join()
                    return p.exitcode
                print(run(same), run(same, fds={run(number): os.open("/", os.O_RDONLY)}))
            """, "0 1")


class ItsEnd(Programs):
    PROGRAM = """
        import atexit, cleanfork, logging.handlers, multiprocessing, sys, weakref
        class Kept: pass
        kept = Kept()
        if __name__ != "__main__":
            atexit.register(print, "of the import", flush=True)
            weakref.finalize(kept, print, "finalized of the import", flush=True)
        def work(code):
            atexit.register(print, "of the process", flush=True)
            mine = Kept()
            atexit.register(lambda keep=mine: None)
            weakref.finalize(mine, print, "finalized", flush=True)
            handler = logging.handlers.MemoryHandler(9, target=logging.StreamHandler(sys.stdout))
            logging.getLogger().addHandler(handler)
            logging.warning("buffered")
            if code: sys.exit(code)
            atexit.register(lambda: 1 / 0)
        if __name__ == "__main__":
            for code in (0, 3):
                p = {context}.Process(target=work, args=(code,))
                p.start(); p.join(); print(p.exitcode, flush=True)
        """

    def test_what_the_process_registered_is_done(self):
        spawned = run_program(self.PROGRAM.format(context="multiprocessing.get_context('spawn')"))
        p = self.prints(self.PROGRAM.format(context="cleanfork.get_context(main=False)"),
                        spawned.stdout)
        self.assertIn("ZeroDivisionError", p.stderr)

    def test_what_the_imports_of_the_template_registered_is_not(self):
        self.prints(self.PROGRAM.format(context="cleanfork.get_context()"),
                    "finalized of the process buffered 0 finalized of the process buffered 3")


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
