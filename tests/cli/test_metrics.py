"""metrics: the text, against what a forkserver really did; and its server, as scrapers meet it."""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.parse
import urllib.request

from support import CLEANFORK, DEADLINE, CommandTest, await_true, read_line
from template_support import PROGRAM

SAMPLE = re.compile(r'(cleanfork_[a-z_]+)((?:\{[a-z_]+="(?:[^"\\]|\\.)*"(?:,[a-z_]+="(?:[^"\\]|\\.)*")*\})?) (\S+)')
BUCKETS = 20
REPOSITORY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")


def samples(text):
    """{"name{labels}": number}; each line has to be one of the format's."""
    found = {}
    families = set()
    lines = text.split("\n")
    assert lines[-2:] == ["# EOF", ""], lines[-2:]
    for line in lines[:-2]:
        if line.startswith("# "):
            kind, family, _ = line[2:].split(" ", 2)
            assert kind in ("TYPE", "UNIT", "HELP"), line
            families.add(family)
            continue
        parts = SAMPLE.fullmatch(line)
        assert parts, line
        name = re.sub("_(total|info|bucket|sum|count)$", "", parts[1])
        assert name in families, line
        assert parts[1] + parts[2] not in found, line
        found[parts[1] + parts[2]] = float(parts[3])
    return found


class Connection(http.client.HTTPConnection):
    """To a socket with a path."""

    def __init__(self, path):
        super().__init__("localhost", timeout=DEADLINE)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class MetricsTest(CommandTest):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="cleanfork-test-")
        self.addCleanup(shutil.rmtree, self.directory, True)

    def metrics(self, server):
        done = self.cleanfork("metrics", "--socket", server.socket)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return samples(done.stdout)


class Text(MetricsTest):
    def test_what_was_done_is_counted_by_how_it_ended(self):
        server = self.serve()
        for command in (["true"], ["true"], ["false"], ["sh", "-c", "kill -9 $$"]):
            self.spawn("--socket", server.socket, *command)
        self.spawn("--socket", server.socket, "/no/such/program")
        m = self.metrics(server)
        self.assertEqual(m["cleanfork_up"], 1)
        self.assertEqual(m["cleanfork_spawns_total"], 4)
        self.assertEqual(m['cleanfork_exits_total{how="zero"}'], 2)
        self.assertEqual(m['cleanfork_exits_total{how="nonzero"}'], 1)
        self.assertEqual(m['cleanfork_exits_total{how="signal"}'], 1)
        self.assertEqual(m['cleanfork_spawn_failures_total{step="exec"}'], 1)
        self.assertEqual(m["cleanfork_children"], 0)
        self.assertEqual(m['cleanfork_spawn_duration_seconds_count{kind="exec"}'], 4)
        self.assertEqual(m["cleanfork_queue_duration_seconds_count"], 5)
        self.assertGreater(m["cleanfork_loop_turn_duration_seconds_sum"], 0)
        self.assertGreater(m["cleanfork_resident_memory_bytes"], 100_000)

    def test_buckets_only_grow_and_the_last_has_them_all(self):
        server = self.serve()
        for _ in range(5):
            self.spawn("--socket", server.socket, "true")
        buckets = [v for k, v in self.metrics(server).items()
                   if k.startswith('cleanfork_spawn_duration_seconds_bucket{kind="exec"')]
        self.assertEqual(len(buckets), BUCKETS)
        self.assertEqual(buckets, sorted(buckets))
        self.assertEqual(buckets[-1], 5)

    def test_a_template_has_lines_of_its_own_and_a_name_cannot_break_them(self):
        server = self.serve()
        name = 'odd"\\name'
        done = self.cleanfork("template", "add", "--socket", server.socket, name, "--warm", "1",
                              "--", PROGRAM)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        done = self.cleanfork("call", "--socket", server.socket, name, "nothing")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        m = self.metrics(server)
        label = '{template="odd\\"\\\\name"}'
        self.assertEqual(m["cleanfork_template_calls_total" + label], 1)
        self.assertEqual(m["cleanfork_template_ready" + label], 1)
        self.assertEqual(m["cleanfork_template_warm_children_wanted" + label], 1)
        self.assertEqual(m['cleanfork_spawn_duration_seconds_count{kind="call"}']
                         + m['cleanfork_spawn_duration_seconds_count{kind="warm_call"}'], 1)

    def test_the_dashboard_asks_for_nothing_that_is_not_there(self):
        server = self.serve()
        done = self.cleanfork("template", "add", "--socket", server.socket, "t", "--", PROGRAM)
        self.assertEqual(done.returncode, 0, done)
        self.spawn("--socket", server.socket, "/no/such/program")
        there = {name.partition("{")[0] for name in self.metrics(server)}
        with open(os.path.join(REPOSITORY, "docs/grafana.json")) as file:
            asked = set(re.findall(r"cleanfork_[a-z_]+", " ".join(
                target["expr"] for panel in json.load(file)["panels"]
                for target in panel["targets"])))
        self.assertLessEqual(asked, there)
        with open(os.path.join(REPOSITORY, "docs/metrics.md")) as file:
            text = file.read()
        for name in there:
            short = re.sub("_(bucket|sum|count)$", "", name)
            self.assertTrue(f"`{short}" in text or f"`{short.removeprefix('cleanfork_template')}`"
                            in text, f"docs/metrics.md does not know {name}")

    def test_without_a_forkserver_it_is_an_error(self):
        done = self.cleanfork("metrics")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("no-forkserver", done.stderr)
        self.assertEqual(done.stdout, "")


class ServedTest(MetricsTest):
    def listen(self, server_socket, place=None):
        """A metrics server: its process and what it says where it is."""
        place = place or f"unix:{self.directory}/metrics"
        process = subprocess.Popen(
            [CLEANFORK, "metrics", "--socket", server_socket, "--listen", place], bufsize=0,
            env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE)
        self.addCleanup(self.end, process)
        said = read_line(process.stderr)
        self.assertTrue(said.startswith("cleanfork: metrics at "), said)
        return process, said.removeprefix("cleanfork: metrics at ")

    def connect(self):
        connection = Connection(f"{self.directory}/metrics")
        self.addCleanup(connection.close)
        return connection

    @staticmethod
    def ask(connection, what="GET", path="/metrics"):
        connection.request(what, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer

    @staticmethod
    def end(process):
        process.kill()
        process.wait()
        process.stderr.close()


class Served(ServedTest):
    def test_over_tcp_and_over_a_socket_with_a_path(self):
        server = self.serve()
        _, url = self.listen(server.socket, "127.0.0.1:0")
        with urllib.request.urlopen(url, timeout=DEADLINE) as answer:
            self.assertIn("application/openmetrics-text", answer.headers["Content-Type"])
            self.assertEqual(samples(answer.read().decode())["cleanfork_up"], 1)
        process, said = self.listen(server.socket)
        self.assertEqual(said, f"unix:{self.directory}/metrics")
        self.assertEqual(os.stat(f"{self.directory}/metrics").st_mode & 0o777, 0o600)
        status, text, _ = self.ask(self.connect())
        self.assertEqual((status, samples(text)["cleanfork_up"]), (200, 1))
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(DEADLINE), 0)
        self.assertFalse(os.path.exists(f"{self.directory}/metrics"))

    def test_what_is_not_a_scrape_is_told_so(self):
        self.listen(self.serve().socket)
        connection = self.connect()
        self.assertEqual(self.ask(connection, "GET", "/other")[0], 404)
        self.assertEqual(self.ask(connection, "POST")[0], 405)
        status, text, answer = self.ask(connection, "HEAD")
        self.assertEqual((status, text), (200, ""))
        self.assertGreater(int(answer.headers["Content-Length"]), 1000)
        self.assertEqual(self.ask(connection)[0], 200)  # the connection is as good as before

    def test_a_forkserver_that_ends_and_one_that_comes_back(self):
        server = self.serve()
        self.listen(server.socket)
        connection = self.connect()
        self.assertEqual(samples(self.ask(connection)[1])["cleanfork_up"], 1)
        server.process.kill()
        server.process.wait(DEADLINE)
        await_true(lambda: samples(self.ask(connection)[1]) == {"cleanfork_up": 0})
        again = subprocess.Popen([CLEANFORK, "serve", "--socket", server.socket],
                                 stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(lambda: (again.terminate(), again.wait(DEADLINE)))
        await_true(lambda: samples(self.ask(connection)[1])["cleanfork_up"] == 1)

    def test_clients_that_stall_keep_nobody_waiting(self):
        server = self.serve()
        process, _ = self.listen(server.socket)
        with contextlib.ExitStack() as stalled:
            for _ in range(200):
                one = socket.socket(socket.AF_UNIX)
                stalled.enter_context(one)
                one.connect(f"{self.directory}/metrics")
                one.send(b"GET /metr")
            status, text, _ = self.ask(self.connect())
            self.assertEqual((status, samples(text)["cleanfork_sessions"]), (200, 1))
        self.assertIsNone(process.poll())

    def test_ten_thousand_scrapes_leave_nothing_behind(self):
        server = self.serve()
        process, _ = self.listen(server.socket)
        connection = self.connect()
        self.ask(connection)
        before = len(os.listdir(f"/proc/{process.pid}/fd"))
        for _ in range(9_000):
            self.assertEqual(self.ask(connection)[0], 200)
        for _ in range(1_000):
            with contextlib.closing(self.connect()) as one:
                self.assertEqual(self.ask(one)[0], 200)
        await_true(lambda: len(os.listdir(f"/proc/{process.pid}/fd")) == before)
        self.assertEqual(samples(self.ask(connection)[1])["cleanfork_sessions"], 1)

    def test_a_file_is_not_replaced_and_a_socket_that_was_left_is(self):
        server = self.serve()
        path = f"{self.directory}/metrics"
        with open(path, "w") as file:
            file.write("mine")
        done = self.cleanfork("metrics", "--socket", server.socket, "--listen", f"unix:{path}")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(path, done.stderr)
        self.assertIn("in use", done.stderr)
        with open(path) as file:
            self.assertEqual(file.read(), "mine")
        os.unlink(path)
        process, _ = self.listen(server.socket)
        done = self.cleanfork("metrics", "--socket", server.socket, "--listen", f"unix:{path}")
        self.assertIn("in use", done.stderr)  # one that serves keeps its place
        process.kill()
        process.wait()
        self.listen(server.socket)
        self.assertEqual(self.ask(self.connect())[0], 200)

    def test_an_address_that_is_none_is_a_usage_error(self):
        for place in ("9464", "localhost:9464", "127.0.0.1:x", "127.0.0.1:70000", "unix:", "[::1]"):
            with self.subTest(place):
                done = self.cleanfork("metrics", "--listen", place)
                self.assertNotEqual(done.returncode, 0)
                self.assertIn("--listen", done.stderr)


class Prometheus(ServedTest):
    def setUp(self):
        super().setUp()
        if shutil.which("prometheus") is None:
            self.skipTest("there is no prometheus here")

    def test_it_takes_the_text_and_answers_queries_about_it(self):
        server = self.serve()
        _, url = self.listen(server.socket, "127.0.0.1:0")
        for _ in range(3):
            self.spawn("--socket", server.socket, "true")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        config = os.path.join(self.directory, "prometheus.yml")
        with open(config, "w") as file:
            json.dump({"scrape_configs": [{
                "job_name": "cleanfork", "scrape_interval": "1s", "static_configs": [
                    {"targets": [urllib.parse.urlsplit(url).netloc]}]}]}, file)
        process = subprocess.Popen(
            ["prometheus", f"--config.file={config}", f"--web.listen-address=127.0.0.1:{port}",
             f"--storage.tsdb.path={self.directory}/data"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(lambda: (process.terminate(), process.wait(DEADLINE)))

        def query(what):
            at = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": what})
            try:
                with urllib.request.urlopen(at, timeout=DEADLINE) as answer:
                    found = json.load(answer)["data"]["result"]
            except OSError:
                return None
            return float(found[0]["value"][1]) if found else None

        await_true(lambda: query("cleanfork_spawns_total") == 3)
        self.assertEqual(query('up{job="cleanfork"}'), 1)
        self.assertGreater(query("histogram_quantile(0.5, cleanfork_spawn_duration_seconds_bucket"
                                 '{kind="exec"})'), 0)
