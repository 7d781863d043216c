"""cleanfork.prefork.Limits: workers of real servers that are replaced, and those that hang."""

import http.client
import http.server
import os
import signal
import socket
import threading
import unittest
from unittest import mock

from cleanfork.prefork import Limits, Supervisor
from mp_support import Program
from patience import scaled
from support import DEADLINE
import test_prefork
from test_prefork import WORKER, Running, serve


def serve_http(worker, listening):
    """A server with threads, on a socket that all workers accept from."""
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = str(os.getpid()).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            worker.served()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("", 0), Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listening
    server.daemon_threads = False
    accepting = threading.Thread(target=server.serve_forever, args=(0.01,))
    accepting.start()
    worker.ready()
    worker.wait()
    server.shutdown()
    accepting.join()
    server.server_close()  # waits for its threads


def grow(worker, path):
    """The first one takes 100 MiB."""
    memory = b""
    if not os.path.exists(path):
        os.close(os.open(path, os.O_CREAT))
        memory = b"x" * (100 << 20)
    worker.ready()
    worker.wait()
    del memory


def stop_oneself(worker):
    worker.ready()
    os.kill(os.getpid(), signal.SIGSTOP)


class Replaced(unittest.TestCase):
    setUp = test_prefork.Workers.setUp

    def never_fewer_than(self, workers, lines):
        serving = set()
        settled = False
        for line in lines:
            match = WORKER.fullmatch(line)
            if match is not None:
                if match[4] == "serves":
                    serving.add(match[1])
                elif match[4].startswith(("exited", "killed by")):
                    serving.discard(match[1])
            settled = settled or len(serving) == workers
            if settled:
                self.assertGreaterEqual(len(serving), workers, lines)

    def test_after_so_many_requests_and_none_is_lost(self):
        with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
            listening.setblocking(False)
            with Running(serve_http, args=(listening,),
                         limits=Limits(requests=20, requests_jitter=5)) as r:
                r.wait("2 workers serve, generation 1")
                pids, replaced = set(), "worker .*: is replaced: it has served its requests"
                while len(r.said(replaced)) < 3 and len(pids) < 20:
                    c = http.client.HTTPConnection(*listening.getsockname(), timeout=DEADLINE)
                    c.request("GET", "/")
                    pids.add(int(c.getresponse().read()))
                    c.close()
                r.wait(replaced, 3)
                r.wait("2 workers serve, generation 1", 2)
                self.never_fewer_than(2, [line for _, line in r.lines])
        self.assertGreater(len(pids), 2)
        self.assertEqual({how for how in r.ends() if "exited" in how}, {"exited 0"})

    def test_after_a_time_that_differs_between_them(self):
        with Running(serve, limits=Limits(age=0.1, age_jitter=0.1)) as r:
            r.wait("worker .*: is replaced: it has served its time", 4)
            self.never_fewer_than(2, [line for _, line in r.lines])

    def test_when_it_has_too_much_memory(self):
        for limits in (Limits(rss=100 << 20, memory_every=0.05),
                       Limits(pss=60 << 20, memory_every=0.05)):
            with self.subTest(limits), Program("") as program:
                path = os.path.join(program.directory.name, "grown")
                with Running(grow, 1, args=(path,), limits=limits) as r:
                    r.wait("worker 1, .*: is replaced: .ss of [0-9]+ bytes, more than .*")
                    r.wait("worker 2, .*: serves")
                    r.wait("worker 1, .*: exited 0")
                    self.never_fewer_than(1, [line for _, line in r.lines])
                self.assertEqual(r.said("worker 2, .*: is replaced.*"), [])

    def test_one_that_waits_gives_signs_of_life(self):
        with Running(serve, 1, limits=Limits(hang=scaled(0.5), age=scaled(1.2))) as r:
            r.wait("worker 1, .*: is replaced: it has served its time")
            self.assertEqual(r.said(".*no sign of life.*"), [])

    def test_one_that_cannot_tell_its_stacks_is_killed(self):
        with mock.patch("cleanfork._supervisor._AFTER_GRACE", 0.1):
            with Running(stop_oneself, 1, limits=Limits(hang=0.2)) as r:
                r.wait("worker 1, .*: no sign of life for 0.2 s, so it is ended by SIGABRT")
                r.wait("worker 1, .*: killed by SIGKILL")
                r.wait("worker 2, .*: serves")


class Hung(unittest.TestCase):
    def test_its_stacks_are_told_and_another_takes_its_place(self):
        with Program("""
            import cleanfork.prefork, resource, threading
            def stuck(lock):
                lock.acquire()
            def serve(worker):
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                worker.ready()
                if worker.number == 1:
                    lock = threading.Lock()
                    lock.acquire()
                    stuck(lock)
                worker.wait()
            if __name__ == "__main__":
                def tell(line):
                    print(line, flush=True)
                    if line.startswith("worker 2") and line.endswith("serves"):
                        s.stop()
                s = cleanfork.prefork.Supervisor(serve, 1, tell=tell,
                                                 limits=cleanfork.prefork.Limits(hang=0.3))
                s.run()
            """) as program:
            p = program.run()
        self.assertRegex(p.stdout, "worker 1, .*: killed by SIGABRT\n(.*\n)*worker 2, .*: serves")
        self.assertIn("in stuck", p.stderr)
        self.assertEqual(p.returncode, 0)


class Refused(unittest.TestCase):
    def test_are_limits_that_are_none(self):
        for name in ("requests", "age", "rss", "pss", "hang", "memory_every"):
            with self.assertRaisesRegex(ValueError, rf"Limits\({name}=0\): it must be positive"):
                Supervisor(serve, 1, limits=Limits(**{name: 0}))
        with self.assertRaises(ValueError):
            Supervisor(serve, 1, limits=Limits(requests=1, requests_jitter=-1))


if __name__ == "__main__":
    unittest.main()
