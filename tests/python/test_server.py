"""The program's forkserver: start, end, forks of the program, and its loss."""

import os
import pickle
import select
import signal
import subprocess
import tempfile
import threading
import unittest

import cleanfork
import cleanfork.subprocess
from support import (DEADLINE, PYTHON, NothingLeft, helper, hidden_threads, open_descriptors,
                     run_python, wait_readable)

PIPE = -1


def ended(pid):
    """Waits until the process is gone, or a zombie that nobody has reaped yet."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        wait_readable(pidfd)
    finally:
        os.close(pidfd)


class Life(unittest.TestCase):
    def tearDown(self):
        cleanfork.stop()

    def test_one_for_the_program(self):
        first = cleanfork.start()
        self.assertIs(cleanfork.client(), first)
        self.assertIs(cleanfork.start(), first)
        self.assertTrue(first.connected)

    def test_stop_ends_it(self):
        pid = cleanfork.start().server["pid"]
        cleanfork.stop()
        ended(pid)
        self.assertNotEqual(cleanfork.client().server["pid"], pid)

    def test_it_ends_with_the_program(self):
        p = run_python("import cleanfork; print(cleanfork.start().server['pid'])")
        ended(int(p.stdout))

    def test_it_ends_with_a_killed_program(self):
        p = run_python("import cleanfork, os; print(cleanfork.start().server['pid'], flush=True);"
                       "os.kill(os.getpid(), 9)")
        self.assertEqual(p.returncode, -9)
        ended(int(p.stdout))

    def test_it_holds_no_pipe_of_the_program(self):
        # communicate() of the standard module would wait for it.
        p = run_python("import cleanfork.subprocess as s, cleanfork; s.run(['true']);"
                       "print(cleanfork.client().server['pid'])")
        self.assertEqual(p.returncode, 0)
        pid = cleanfork.start().server["pid"]
        for fd in (0, 1, 2):
            self.assertEqual(os.readlink(f"/proc/{pid}/fd/{fd}"), "/dev/null")

    def test_a_child_outlives_the_program(self):
        code = ("import cleanfork.subprocess as s;"
                "print(s.Popen(['sleep', 'infinity'], stdout=s.DEVNULL, stderr=s.DEVNULL).pid)")
        pid = int(run_python(code).stdout)
        pidfd = os.pidfd_open(pid)
        self.assertEqual(select.select([pidfd], [], [], 0.2)[0], [])
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)

    def test_a_child_ends_with_the_program_when_asked_to(self):
        code = ("import cleanfork, signal, cleanfork.subprocess as s\n"
                "class Popen(s.Popen):\n"
                "    lifetime = cleanfork.Lifetime(signal=signal.SIGKILL)\n"
                "print(Popen(['sleep', 'infinity'], stdout=s.DEVNULL, stderr=s.DEVNULL).pid)")
        ended(int(run_python(code).stdout))

    def test_missing_daemon(self):
        p = run_python("import cleanfork; cleanfork.start()",
                       env={**os.environ, "CLEANFORK_DAEMON": "/no/cleanforkd"})
        self.assertIn("/no/cleanforkd", p.stderr)
        self.assertIn("CLEANFORK_DAEMON names no program", p.stderr)

    def test_joined_by_path(self):
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "socket")
            notify = os.path.join(d, "notify")
            import socket
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
                ready.bind(notify)
                ready.settimeout(DEADLINE)
                daemon = subprocess.Popen(
                    [os.path.join(os.environ["CLEANFORK_BIN"], "cleanfork"), "serve", "--socket",
                     path, "--log-level", "error"], env={**os.environ, "NOTIFY_SOCKET": notify})
                while b"READY=1" not in ready.recv(4096):
                    pass
            try:
                code = ("import cleanfork, cleanfork.subprocess as s;"
                        "print(cleanfork.client().server['pid'], s.run(['false']).returncode)")
                p = run_python(code, env={**os.environ, "CLEANFORK_SOCKET": path})
                pids = p.stdout.split()
                self.assertEqual(pids[1], "1", p.stderr)
                again = run_python(code, env={**os.environ, "CLEANFORK_SOCKET": path})
                self.assertEqual(again.stdout.split()[0], pids[0])
            finally:
                daemon.terminate()
                daemon.wait()

    def test_many_threads_start_one(self):
        pids = set()
        threads = [threading.Thread(target=lambda: pids.add(cleanfork.client().server["pid"]))
                   for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(len(pids), 1)

    def test_start_and_stop_leave_no_descriptor(self):
        cleanfork.stop()
        before = open_descriptors()
        for _ in range(3):
            cleanfork.start()
            cleanfork.stop()
        self.assertEqual(open_descriptors(), before)


class Forks(unittest.TestCase):
    """A child of os.fork() has its own; the parent's goes on."""

    def in_fork(self, function):
        """What `function` returns in a forked child, as text."""
        r, w = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.write(w, str(function()).encode())
            finally:
                os._exit(0)
        os.close(w)
        with open(r, "rb") as f:
            answer = f.read().decode()
        os.waitpid(pid, 0)
        return answer

    def test_the_child_starts_its_own(self):
        mine = cleanfork.start().server["pid"]
        theirs = self.in_fork(lambda: (cleanfork.subprocess.run(["false"]).returncode,
                                       cleanfork.client().server["pid"])[1])
        self.assertNotEqual(int(theirs), mine)
        ended(int(theirs))
        self.assertEqual(cleanfork.subprocess.run(["false"]).returncode, 1)
        self.assertEqual(cleanfork.client().server["pid"], mine)

    def test_the_parents_socket_is_closed(self):
        fd = cleanfork.start().fileno()
        self.assertEqual(self.in_fork(lambda: os.path.exists(f"/proc/self/fd/{fd}")), "False")

    def test_the_parents_client_is_refused(self):
        c = cleanfork.start()

        def use():
            try:
                c.spawn("true")
            except cleanfork.SpawnError as e:
                return e.detail, c.connected
        self.assertIn("made before a fork", self.in_fork(use))
        self.assertTrue(c.connected)

    def test_the_parents_child_is_refused(self):
        with cleanfork.subprocess.Popen(["cat"], stdin=PIPE) as p:
            def use():
                try:
                    p.wait()
                except cleanfork.SpawnError as e:
                    return e.detail
            self.assertIn("belongs to the parent", self.in_fork(use))
            self.assertIsNone(p.poll())

    def test_a_fork_during_waits_of_other_threads(self):
        with cleanfork.subprocess.Popen(["cat"], stdin=PIPE) as p:
            waiting = threading.Thread(target=p.wait)
            waiting.start()
            self.assertEqual(
                self.in_fork(lambda: cleanfork.subprocess.run(["false"]).returncode), "1")
            p.stdin.close()
            waiting.join()
            self.assertEqual(p.returncode, 0)


class Clients(NothingLeft):
    def test_errors_name_step_errno_object(self):
        with self.assertRaises(cleanfork.SpawnError) as caught:
            cleanfork.client().spawn("true", cwd="/no/such/place")
        e = caught.exception
        self.assertEqual((e.step, e.errno, e.object), ("chdir", 2, "/no/such/place"))
        self.assertIsInstance(e, OSError)
        again = pickle.loads(pickle.dumps(e))
        self.assertEqual((type(again), again.step, str(again)), (type(e), e.step, str(e)))

    def test_standard_errors_have_it_as_their_cause(self):
        with self.assertRaises(FileNotFoundError) as caught:
            cleanfork.subprocess.run(["true"], cwd="/no/such/place")
        self.assertEqual(caught.exception.__cause__.step, "chdir")

    def test_options(self):
        c = cleanfork.client()
        r, w = os.pipe()
        p = c.spawn("sh", ["-c", "echo $0 $A $PWD $(umask) $(nice); echo $(ulimit -c) >&5; exit 6"],
                    argv0="sh", stdout=PIPE, fds={5: w}, env={"A": "b", "PATH": "/bin"}, cwd="/usr",
                    umask=0o77, nice=5, rlimits={4: (512, 512)}, affinity=[0],
                    oom_score_adj=100, no_new_privs=True, start_new_session=True,
                    lifetime=cleanfork.Lifetime(signal=9, grace=0.1, target="group"), timeout=DEADLINE)
        os.close(w)
        with open(p.take_stdout(), "rb") as out, open(r, "rb") as other:
            self.assertEqual(out.read(), b"sh b /usr 0077 5\n")
            self.assertEqual(other.read(), b"1\n")
        status = p.wait()
        self.assertEqual((status.exited, status.code, bool(status)), (True, 6, False))
        self.assertGreater(p.wall, 0)

    def test_unknown_option(self):
        with self.assertRaisesRegex(TypeError, "'colour' is no option of a spawn"):
            cleanfork.client().spawn("true", colour="red")

    def test_status(self):
        p = cleanfork.client().spawn("sleep", ["infinity"])
        self.assertIsNone(p.wait(0.01))
        self.assertIsNone(p.poll())
        p.signal(signal.SIGTERM)
        status = p.wait()
        self.assertEqual((status.signaled, status.signal, str(status)),
                         (True, 15, "killed by SIGTERM"))

    def test_reports(self):
        c = cleanfork.client()
        p = c.spawn("sleep", ["infinity"])
        self.assertIn(p.pid, [each["pid"] for each in c.list()])
        self.assertGreaterEqual(c.stats()["children"], 1)
        p.signal(9)
        p.wait()
        self.assertEqual(c.templates(), [])

    def test_templates_and_calls(self):
        program = helper("template_program")
        c = cleanfork.client()
        info = c.add_template("helper", program, warm=1, start_timeout=DEADLINE)
        self.assertEqual((info["state"], info["generation"]), ("ready", 1))
        self.assertEqual([t["name"] for t in c.templates()], ["helper"])
        with self.assertRaises(cleanfork.SpawnError) as caught:
            c.call("helper", "no-such-entry")
        self.assertEqual(caught.exception.step, "entry")
        self.assertEqual(c.reload_template("helper")["generation"], 2)
        c.remove_template("helper")
        with self.assertRaises(cleanfork.SpawnError):
            c.template_info("helper")

    def test_a_closed_client(self):
        c = cleanfork.launch()
        p = c.spawn("sleep", ["infinity"], lifetime=cleanfork.Lifetime(signal=9))
        c.close()
        self.assertFalse(c.connected)
        with self.assertRaises(cleanfork.SpawnError):
            c.spawn("true")
        wait_readable(p.pidfd)

    def test_a_client_that_is_closed_while_others_ask(self):
        p = run_python("""
import threading, cleanfork

def ask(c, begun):
    try:
        while True:
            c.stats()
            begun.set()
            c.list()
            c.spawn("true").wait()
    except (cleanfork.SpawnError, cleanfork.StatusUnknown):
        begun.set()

for _ in range(20):
    c, events = cleanfork.launch(), [threading.Event() for _ in range(8)]
    threads = [threading.Thread(target=ask, args=(c, begun)) for begun in events]
    for each in threads: each.start()
    for begun in events: begun.wait()
    c.close()
    for each in threads: each.join()
""")
        self.assertEqual((p.returncode, p.stderr), (0, ""))

    def test_inherited_socket(self):
        import socket
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            program = os.path.join(os.environ["CLEANFORK_BIN"], "cleanforkd")
            daemon = subprocess.Popen([program, "--private-fd", str(theirs.fileno())],
                                      pass_fds=[theirs.fileno()])
        c = cleanfork.attach(mine.detach())
        self.assertTrue(c.spawn("true").wait())
        daemon.wait()
        c.close()

    def test_popen_extras(self):
        p = cleanfork.subprocess.Popen(["cat"], stdin=PIPE)
        self.assertIsNone(p.rusage)
        self.assertEqual(select.select([p.pidfd], [], [], 0)[0], [])
        p.stdin.close()
        wait_readable(p.pidfd)
        self.assertEqual(p.poll(), 0)
        self.assertGreater(p.rusage.ru_maxrss, 0)

    def test_preexec_fn_is_refused_with_the_reason(self):
        with self.assertRaisesRegex(ValueError, "no copy of this program"):
            cleanfork.subprocess.run(["true"], preexec_fn=lambda: None)

    def test_from_many_threads(self):
        codes = []

        def work(code):
            for _ in range(10):
                codes.append(cleanfork.subprocess.run(["sh", "-c", f"exit {code}"]).returncode)
        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(sorted(codes), sorted(list(range(8)) * 10))
        self.assertEqual((threading.active_count(), hidden_threads()), (1, 0))


if __name__ == "__main__":
    unittest.main()
