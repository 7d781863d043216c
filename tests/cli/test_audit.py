"""cleanfork audit: verdicts, findings, and what it says when it cannot look."""

import json
import os
import subprocess
import sys
import unittest

from support import CommandTest

# Says so when it is as the test wants it, and goes on until its input ends.
WAIT = "; import sys; print('ready', flush=True); sys.stdin.read()"


class Audit(CommandTest):
    def target(self, code):
        process = subprocess.Popen([sys.executable, "-S", "-c", code + WAIT], bufsize=0,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL)
        self.addCleanup(self.end, process)
        self.assertEqual(process.stdout.readline(), b"ready\n")
        return process.pid

    def audit(self, code):
        """The report of a program, and its exit status."""
        pid = self.target(code)
        done = self.cleanfork("audit", "--json", str(pid))
        self.assertEqual(done.stderr, "")
        report = json.loads(done.stdout)
        self.assertEqual(report["pid"], pid)
        return report, done.returncode

    def test_a_program_that_has_only_files_and_pipes_is_safe(self):
        pid = self.target("f = open('/etc/passwd')")
        done = self.cleanfork("audit", str(pid))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(done.stdout, rf"\APID {pid} \(python3[^)]*\): safe to fork from\n"
                                      r"  shared position   \d+ /etc/passwd, at 0\n +-> no hazard")
        report = json.loads(self.cleanfork("audit", "--json", str(pid)).stdout)
        self.assertEqual((report["safe"], report["findings"], report["threads"]), (True, [], 1))
        self.assertEqual(report["descriptors"], 4)
        (shared,) = report["shared_positions"]
        self.assertEqual((shared["path"], shared["position"]), ("/etc/passwd", 0))

    def test_sockets_and_epolls_are_named_with_what_to_do(self):
        code = ("import select, socket; s = socket.socket(); s.bind(('127.0.0.1', 0));"
                "s.listen(); e = select.epoll()")
        pid = self.target(code)
        done = self.cleanfork("audit", str(pid))
        self.assertEqual((done.returncode, done.stderr), (1, ""))
        self.assertRegex(done.stdout, rf"\APID {pid} \(python3[^)]*\): not safe to fork from\n")
        self.assertRegex(done.stdout, r"(?m)^  socket +\d+ tcp 127\.0\.0\.1:\d+ listening$")
        self.assertRegex(done.stdout, r"(?m)^  epoll +\d+ anon_inode:\[eventpoll\]$")
        self.assertRegex(done.stdout, r"(?m)^ +-> close it before")

    def test_the_json_form_has_everything(self):
        report, code = self.audit(
            "import threading; e = threading.Event();"
            "threading.Thread(target=e.wait, daemon=True).start()")
        self.assertEqual((code, report["safe"], report["threads"]), (1, False, 2))
        self.assertRegex(report["summary"], r"\A1 extra thread: ")
        (finding,) = report["findings"]
        self.assertEqual(sorted(finding),
                         ["consequence", "kind", "library", "name", "number", "remedy", "text"])
        self.assertRegex(finding["library"], r"\A/.*python")
        self.assertEqual(finding["kind"], "thread")
        self.assertGreater(finding["number"], report["pid"])

    def test_a_lock_and_a_child_are_findings(self):
        path = os.path.join(self.home, "locked")
        self.addCleanup(os.unlink, path)
        report, code = self.audit(
            f"import fcntl, subprocess; f = open({path!r}, 'w'); fcntl.flock(f, fcntl.LOCK_EX);"
            "p = subprocess.Popen(['cat'], stdin=subprocess.PIPE)")
        self.assertEqual(code, 1)
        findings = {f["kind"]: f for f in report["findings"]}
        self.assertEqual(set(findings), {"child", "file_lock"})
        self.assertIn(f"FLOCK WRITE {path}", findings["file_lock"]["text"])
        self.assertRegex(findings["child"]["text"], r"\A\d+ ")

    def test_a_name_that_would_drive_a_terminal_is_printed_without(self):
        pid = self.target(r"open('/proc/self/comm', 'w').write('a\033[2Jb')")
        self.assertTrue(self.cleanfork("audit", str(pid)).stdout.startswith(f"PID {pid} (a?[2Jb)"))

    def test_no_such_process_is_an_error_of_its_own(self):
        # One that has ended and is not reaped yet: its pid cannot be another's.
        process = subprocess.Popen(["true"])
        self.addCleanup(process.wait)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        done = self.cleanfork("audit", str(process.pid))
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertRegex(done.stderr, rf'\Acleanfork: .*"/proc/{process.pid}".*ESRCH.*\n\Z')

    def test_an_argument_that_is_no_pid_says_so(self):
        for args, why in (((), "PID|TEMPLATE is required"),
                          (("0",), '"0" is not the pid of a process'),
                          (("-1",), "-1"),
                          (("1", "2"), "2"),
                          (("99999999999",), "is not the pid of a process")):
            with self.subTest(args):
                done = self.cleanfork("audit", *args)
                self.assertEqual((done.returncode, done.stdout), (2, ""))
                self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
                self.assertIn(why, done.stderr)
                self.assertIn("cleanfork audit --help", done.stderr)

    def test_a_name_is_a_template_and_needs_a_forkserver(self):
        done = self.cleanfork("audit", "web")
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertIn("web is no pid", done.stderr)
        self.assertIn("cleanfork serve", done.stderr)

    def test_help_names_the_argument(self):
        done = self.cleanfork("audit", "--help")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertTrue(done.stdout.startswith("Usage: cleanfork audit [OPTION]... PID|TEMPLATE\n"))
        self.assertIn("Examples:", done.stdout)


if __name__ == "__main__":
    unittest.main()
