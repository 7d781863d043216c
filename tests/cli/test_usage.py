"""Help, version, unknown commands, and doctor."""

import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest

from support import CLEANFORK, CommandTest

COMMANDS = ("spawn", "serve", "ps", "kill", "wait", "stats", "shutdown", "doctor")


class Usage(CommandTest):
    def test_help_of_the_command_and_of_each_subcommand(self):
        done = self.cleanfork("--help")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        for name in COMMANDS:
            self.assertRegex(done.stdout, rf"(?m)^  {name} ")
            with self.subTest(name):
                one = self.cleanfork(name, "--help")
                self.assertEqual((one.returncode, one.stderr), (0, ""))
                self.assertTrue(one.stdout.startswith(f"Usage: cleanfork {name}"), one.stdout)
                self.assertIn("Examples:", one.stdout)

    def test_version(self):
        self.assertRegex(self.cleanfork("--version").stdout, r"\Acleanfork \d+\.\d+\.\d+\n\Z")

    def test_what_is_unknown_is_one_line_with_a_hint(self):
        for args, why in (((), "a command is missing"),
                          (("spwan",), "unknown command spwan"),
                          (("--nonsense",), "unknown option --nonsense")):
            done = self.cleanfork(*args)
            self.assertEqual((done.returncode, done.stdout), (2, ""))
            self.assertEqual(done.stderr.count("\n"), 1)
            self.assertIn(why, done.stderr)
            self.assertIn("cleanfork --help", done.stderr)
        self.assertIn("did you mean doctor?", self.cleanfork("docter").stderr)

    def test_output_that_cannot_be_written_is_an_error(self):
        with open("/dev/full", "w", encoding="ascii") as full:
            self.assertEqual(subprocess.run([CLEANFORK, "--help"], stdout=full,
                                            check=False).returncode, 1)

    def test_serve_without_its_daemon_says_where_it_looked(self):
        done = self.cleanfork("serve", env={**self.environment,
                                            "CLEANFORK_DAEMON": "/no/such/cleanforkd"})
        self.assertEqual(done.returncode, 1)
        self.assertIn("/no/such/cleanforkd", done.stderr)

    def test_serve_runs_the_daemon_of_its_own_installation(self):
        with tempfile.TemporaryDirectory() as prefix:
            for directory in ("bin", "sbin"):
                os.mkdir(os.path.join(prefix, directory))
            copy = shutil.copy(CLEANFORK, os.path.join(prefix, "bin"))
            daemon = os.path.join(prefix, "sbin", "cleanforkd")
            with open(daemon, "w", encoding="ascii") as script:
                script.write("#!/bin/sh\necho the daemon of the prefix: $*\n")
            os.chmod(daemon, 0o700)
            environment = {**self.environment, "PATH": os.path.dirname(CLEANFORK)}
            environment.pop("CLEANFORK_DAEMON", None)
            done = subprocess.run([copy, "serve", "--some", "words"], env=environment,
                                  capture_output=True, text=True, check=False)
        self.assertEqual(done.stdout, "the daemon of the prefix: --some words\n")


class Doctor(CommandTest):
    def findings(self, **environment):
        done = self.cleanfork("doctor", "--json", env={**self.environment, **environment})
        report = json.loads(done.stdout)
        return done, report, {f["name"]: f for f in report["findings"]}

    def test_it_tries_a_spawn_and_succeeds(self):
        done, report, found = self.findings()
        self.assertEqual((done.returncode, report["spawn-works"]), (0, True))
        self.assertEqual(found["private forkserver"]["result"], "ok")
        self.assertRegex(found["private forkserver"]["text"], r"ran /bin/true in [\d.]+ [mu]?s")
        for name in ("pidfd_exit_info", "close_range_unshare", "clone_into_cgroup", "cgroup_kill",
                     "pidfd_signal_group", "execveat", "descriptors", "processes", "cgroup v2",
                     "pid_max", "socket directory", "XDG_RUNTIME_DIR", "user"):
            self.assertIn(name, found)

    def test_a_feature_that_is_missing_has_its_remedy(self):
        _, report, found = self.findings(CLEANFORK_DISABLE_FEATURES="pidfd_exit_info")
        self.assertTrue(report["spawn-works"])
        self.assertEqual(found["pidfd_exit_info"]["result"], "missing")
        self.assertIn("Linux 6.15", found["pidfd_exit_info"]["remedy"])

    def test_without_a_daemon_it_fails_and_says_what_to_do(self):
        done, report, found = self.findings(CLEANFORK_DAEMON="/no/such/cleanforkd")
        self.assertEqual((done.returncode, report["spawn-works"]), (1, False))
        self.assertEqual(found["cleanforkd"]["result"], "missing")
        self.assertIn("CLEANFORK_DAEMON", found["cleanforkd"]["remedy"])

    def test_a_running_forkserver_is_found(self):
        server = self.serve()
        _, _, found = self.findings(CLEANFORK_SOCKET=server.socket)
        self.assertIn(f"pid {server.process.pid}", found["running forkserver"]["text"])
        self.assertEqual(found["running forkserver"]["result"], "ok")

    def test_each_line_for_people_starts_with_its_result(self):
        lines = self.cleanfork("doctor").stdout.splitlines()
        for line in lines:
            self.assertRegex(line, re.compile(r"^(\S|  (ok|warning|missing) +\S|  +-> )"))
        self.assertTrue(any(line.startswith(f"kernel {os.uname().release}") for line in lines))


if __name__ == "__main__":
    unittest.main()
