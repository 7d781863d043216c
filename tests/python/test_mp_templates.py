"""Which processes share a template: of one program, and of several; how long it lives."""

import contextlib
import os
import socket
import subprocess
import tempfile
import unittest

import cleanfork
from mp_support import Program, Programs
from support import DEADLINE


@contextlib.contextmanager
def server():
    """A forkserver at a socket: its path, and a client."""
    with tempfile.TemporaryDirectory() as directory:
        path, notify = (os.path.join(directory, name) for name in ("s", "notify"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(notify)
            ready.settimeout(DEADLINE)
            daemon = subprocess.Popen(
                [os.path.join(os.environ["CLEANFORK_BIN"], "cleanfork"), "serve", "--socket", path,
                 "--log-level", "error"], env={**os.environ, "NOTIFY_SOCKET": notify})
            while b"READY=1" not in ready.recv(4096):
                pass
        client = cleanfork.connect(path)
        try:
            yield path, client
        finally:
            client.close()
            daemon.terminate()
            daemon.wait()


class OfSeveralPrograms(unittest.TestCase):
    PROGRAM = """
        import cleanfork, os, sys
        imported = sys.argv[1], os.environ["TOKEN"]
        def ask(depth):
            ctx = cleanfork.get_context({options})
            q = ctx.SimpleQueue()
            p = ctx.Process(target=work, args=(q, depth))
            p.start(); p.join()
            return q.get()
        def work(q, depth): q.put([imported] + (ask(depth - 1) if depth else []))
        if __name__ == "__main__":
            print(*ask(1), flush=True)
            print(len(cleanfork.client().templates()), flush=True)
            sys.stdin.readline()
        """

    def start(self, program, path, name, **env):
        p = program.start(name, stdin=subprocess.PIPE,
                          env={"CLEANFORK_SOCKET": path, "TOKEN": "of " + name, **env})
        expected = (name, "of " + name)
        self.assertEqual(p.stdout.readline(), f"{expected} {expected}\n", p.stderr)
        return p, int(p.stdout.readline())

    def end(self, p):
        p.stdin.close()
        p.wait(DEADLINE)
        p.stdout.close()
        p.stderr.close()

    def test_none_has_what_another_imported(self):
        with server() as (path, client), Program(self.PROGRAM.format(options="")) as program:
            running = [self.start(program, path, name) for name in ("alice", "bob", "alice")]
            # The one of the program, which its process uses too.
            self.assertEqual([templates for _, templates in running], [1, 2, 3])
            for p, _ in running:
                self.end(p)

    def test_a_template_ends_with_its_program(self):
        with server() as (path, client), Program(self.PROGRAM.format(options="")) as program:
            (first, _), (second, _) = (self.start(program, path, name) for name in ("a", "b"))
            first.kill()
            self.end(first)
            # Its session ends a moment after it.
            while len(client.templates()) > 1:
                client.stats()
            self.end(second)
            while client.templates():
                client.stats()

    def test_one_that_is_shared_by_name_stays_and_is_for_the_like_only(self):
        with server() as (path, client), \
                Program(self.PROGRAM.format(options="shared='workers'")) as program:
            counts = []
            for name, env in (("a", {}), ("b", {}), ("a", {"MORE": "1"}), ("a", {})):
                p, count = self.start(program, path, name, **env)
                counts.append(count)
                self.end(p)
            self.assertEqual(counts, [1, 2, 3, 3])
            self.assertEqual(len(client.templates()), 3)


    RACING = """
        import cleanfork, os, sys
        with open("imports", "a") as file: file.write(f"{sys.argv[1]}\\n")
        if __name__ == "__main__":
            cleanfork.client()
            for name in sys.stdin:
                ctx = cleanfork.get_context(shared=name)
                p = ctx.Process(target=int)
                p.start(); p.join()
                print(p.exitcode, flush=True)
        """

    def test_of_two_that_need_it_at_the_same_moment_one_starts_it(self):
        rounds = 6
        with server() as (path, client), Program(self.RACING) as program:
            two = [program.start("a", stdin=subprocess.PIPE, env={"CLEANFORK_SOCKET": path})
                   for _ in range(2)]
            for i in range(rounds):
                for p in two:
                    p.stdin.write(f"{i}\n")
                    p.stdin.flush()
                self.assertEqual([p.stdout.readline() for p in two], ["0\n"] * 2)
            self.assertEqual([t["generation"] for t in client.templates()], [1] * rounds)
            for p in two:
                self.end(p)
            with open(os.path.join(program.directory.name, "imports")) as file:
                self.assertEqual(len(file.readlines()), 2 + rounds)


class OfOneProgram(Programs):
    def test_a_change_of_path_arguments_or_variables_starts_no_other(self):
        self.prints("""
            import cleanfork, os, sys
            def work(): return sys.path[-1], sys.argv[-1], os.environ["CHANGED"]
            if __name__ == "__main__":
                ctx = cleanfork.get_context()
                for i in range(5):
                    sys.path.append(f"/{i}")
                    sys.argv.append(f"{i}")
                    os.environ["CHANGED"] = f"{i}"
                    with ctx.Pool(1) as pool:
                        assert pool.apply(work) == (f"/{i}", f"{i}", f"{i}")
                print(len(cleanfork.client().templates()))
            """, "1")

    def test_those_used_least_recently_are_removed(self):
        self.prints("""
            import cleanfork
            from cleanfork._mp import templates
            def work(): pass
            if __name__ == "__main__":
                templates._MOST = 2
                contexts = [cleanfork.get_context(main=False, warm=i) for i in range(4)]
                for i in 0, 1, 2, 1, 3, 0:
                    p = contexts[i].Process(target=int)
                    p.start(); p.join()
                    print(p.exitcode, sorted(t["warm"] for t in cleanfork.client().templates()))
            """, "0 [0] 0 [0, 1] 0 [1, 2] 0 [1, 2] 0 [1, 3] 0 [0, 3]")

    EDITED = """
        import cleanfork, helper
        def work(): return helper.VERSION
        if __name__ == "__main__":
            ctx = cleanfork.get_context({options})
            def version():
                with ctx.Pool(1) as pool: print(pool.apply(work), flush=True)
            version()
            with open("helper.py", "w") as f:
                f.write("VERSION = 2     # of another size")
            version()
            version()
            print(len(cleanfork.client().templates()),
                  cleanfork.client().templates()[0]["generation"], flush=True)
        """

    def edited(self, options, expected):
        with Program(self.EDITED.format(options=options)) as program:
            with open(os.path.join(program.directory.name, "helper.py"), "w") as f:
                f.write("VERSION = 1")
            p = program.run()
            self.assertEqual(p.stdout.split(), expected.split(), p.stderr)

    def test_an_edited_module_that_the_main_one_imports_is_imported_anew(self):
        self.edited("", "1 2 2 1 2")

    def test_but_a_preload_stays_until_reload(self):
        self.edited("preload=['helper']", "1 1 1 1 1")


class OfItsImports(Programs):
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


if __name__ == "__main__":
    unittest.main()
