"""What the imports of a template set up, and what its children have of that."""

import os
import unittest

from mp_support import Programs, run_program
from support import helper


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


class WhatMustNotBeShared(Programs):
    """It is refused, with the object, the variable and the line it was made in."""

    def test_a_lock_of_sqlite_and_of_a_file(self):
        self.fails("""
            import cleanfork, os, sqlite3
            if __name__ != "__main__":
                base = sqlite3.connect("base", isolation_level=None)
                base.execute("BEGIN EXCLUSIVE")
            if __name__ == "__main__": cleanfork.get_context().Process(target=print).start()
            """, "1 file lock: ", "/base", "sqlite3.Connection", "__main__.base")
        self.fails("""
            import cleanfork, fcntl
            log = open("log", "a")
            if __name__ != "__main__": fcntl.flock(log, fcntl.LOCK_EX)
            if __name__ == "__main__": cleanfork.get_context().Process(target=print).start()
            """, "1 file lock: ", "__main__.log")

    def test_a_database_without_a_lock_is_used_by_each_child(self):
        self.prints("""
            import cleanfork, sqlite3
            base = sqlite3.connect("base", isolation_level=None)
            base.execute("CREATE TABLE IF NOT EXISTS t (i)")
            def work(i): base.execute("INSERT INTO t VALUES (?)", (i,))
            if __name__ == "__main__":
                ctx = cleanfork.get_context()
                for i in range(3):
                    p = ctx.Process(target=work, args=(i,)); p.start(); p.join(); print(p.exitcode)
                print(base.execute("SELECT count(*), sum(i) FROM t").fetchone())
            """, "0 0 0 (3, 3)")

    def test_a_locked_file_by_choice_fails_at_each_use(self):
        self.prints("""
            import cleanfork, fcntl
            log = open("log", "a")
            if __name__ != "__main__": fcntl.flock(log, fcntl.LOCK_EX)
            def work():
                try: log.write("x"); log.flush()
                except OSError as e: print(e.errno, flush=True)
            if __name__ == "__main__":
                p = cleanfork.get_context(unclean="warn").Process(target=work); p.start(); p.join()
            """, "9")


class ThreadsOfLibraries(Programs):
    """Those that a library ends at a fork are no hindrance."""

    def pool(self, at_fork, load="main"):
        return """
            import cleanfork, ctypes, os, sys
            def load(): return ctypes.CDLL(os.environ["LIBRARY"])
            if LOAD == "main": library = load()
            def work():
                pool = load()
                return pool.pool_sum(), pool.pool_threads(), len(os.listdir("/proc/self/task"))
            if __name__ == "__main__":
                with cleanfork.get_context().Pool(2, maxtasksperchild=1) as pool:
                    print(set(pool.apply(work) for _ in range(20)))
            """.replace("LOAD", repr(load)), {"env": {"POOL_AT_FORK": at_fork,
                                                      "LIBRARY": helper("library_pool.so")}}

    def test_they_are_there_again_in_each_child(self):
        for at_fork in "ends", "returns", "late":
            text, options = self.pool(at_fork)
            self.prints(text.replace("apply(work)", "apply(work)[:2]"), "{(499500, 2)}", **options)

    def test_those_that_nothing_ends_are_refused_with_what_to_do(self):
        text, options = self.pool("stays")
        self.fails(text, "2 extra threads: ", " of library_pool.so", "import it in the child",
                   "main=False", "unclean='warn'", **options)
        text, options = self.pool("stays", load="child")
        self.prints(text.replace("apply(work)", "apply(work)[:2]"), "{(499500, 2)}", **options)

    def test_threads_of_python_are_named(self):
        self.fails("""
            import cleanfork, threading
            def forever(): threading.Event().wait()
            threading.Thread(target=forever, name="poller", daemon=True).start()
            if __name__ == "__main__": cleanfork.get_context().Process(target=print).start()
            """, "1 extra thread: ", "Thread(poller, ", "it runs __mp_main__.forever")

    def test_a_thread_that_is_about_to_end_is_waited_for(self):
        self.prints("""
            import cleanfork, threading, time
            if __name__ != "__main__": threading.Thread(target=time.sleep, args=(0.3,)).start()
            def threads(): return threading.active_count()
            if __name__ == "__main__":
                with cleanfork.get_context().Pool(1) as pool: print(pool.apply(threads))
            """, "1")


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


if __name__ == "__main__":
    unittest.main()
