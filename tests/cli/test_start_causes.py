"""A forkserver that cannot be started: the caller is told why, or it is started all the same."""

import os
import shutil
import subprocess
import tempfile
import unittest

from support import BIN as RELATIVE, CLEANFORK

BIN = os.path.abspath(RELATIVE)
ROOT = os.geteuid() == 0
NOBODY = 64_321  # a user without processes


def first_missing(*programs):
    return next((p for p in programs if shutil.which(p) is None), None)


def run(*command, **options):
    p = subprocess.run(command, capture_output=True, text=True, **options)
    return p.returncode, p.stdout, p.stderr


# Its runtime says what it lacks itself, and ends the command with a code of its own.
SANITIZED = unittest.skipIf(os.environ.get("CLEANFORK_SANITIZE"),
                            "a sanitizer needs /proc, descriptors and processes itself")


@unittest.skipUnless(ROOT, "needs root, to be a user without processes")
class Processes(unittest.TestCase):
    @unittest.skipIf(first_missing("prlimit", "setpriv"), "needs prlimit and setpriv")
    @SANITIZED
    def test_a_limit_of_processes_is_told_wherever_it_is_met(self):
        with tempfile.TemporaryDirectory(dir="/var/tmp") as home:  # which NOBODY may search
            os.chmod(home, 0o755)
            for program in ("cleanfork", "cleanforkd"):
                shutil.copy(os.path.join(BIN, program), home)
            outcomes = set()
            for limit in range(1, 8):
                code, out, err = run(
                    "prlimit", f"--nproc={limit}", "setpriv", f"--reuid={NOBODY}",
                    f"--regid={NOBODY}", "--clear-groups", os.path.join(home, "cleanfork"),
                    "spawn", "--private", "--", "echo", "works", cwd="/")
                outcomes.add(code)
                if code == 0:
                    self.assertEqual(out, "works\n")
                else:
                    self.assertEqual(code, 125)
                    self.assertIn("EAGAIN", err, f"limit {limit}")
                    self.assertIn("ulimit -u", err, f"limit {limit}")
            self.assertEqual(outcomes, {0, 125})


class Descriptors(unittest.TestCase):
    @SANITIZED
    def test_a_limit_of_descriptors_is_told_wherever_it_is_met(self):
        outcomes = set()
        for limit in range(4, 33):
            code, out, err = run("sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh", CLEANFORK,
                                 "spawn", "--private", "--", "echo", "works")
            outcomes.add(code)
            if code == 0:
                self.assertEqual(out, "works\n")
            else:
                self.assertNotEqual(err, "", f"limit {limit}")
            if limit >= 6 and code != 0:  # fewer do not even let the loader open a library
                self.assertIn("EMFILE", err, f"limit {limit}")
                self.assertIn("RLIMIT_NOFILE", err, f"limit {limit}")
            if limit >= 24:
                self.assertEqual(code, 0, err)
        self.assertIn(0, outcomes)

    def test_nothing_leaks_where_close_range_is_missing(self):
        deny = os.path.join(BIN, "test-helpers", "deny")
        out = run(deny, "spawn", "--private", "--", "ls", "/proc/self/fd",
                  "--deny=close_range=38", "--deny=clone3=38", f"--program={CLEANFORK}",
                  pass_fds=[os.open("/dev/null", os.O_RDONLY)])
        self.assertEqual(out, (0, "0\n1\n2\n3\n", ""))


@unittest.skipUnless(ROOT, "needs root, for a root directory of its own")
@unittest.skipIf(first_missing("unshare", "chroot", "mount"), "needs unshare, chroot and mount")
class BareRoots(unittest.TestCase):
    """A root directory without /proc, or without /dev/null."""

    PREPARE = """
    for d in bin usr lib lib64; do
        [ -e /$d ] && mkdir -p $R/$d && mount --rbind /$d $R/$d
    done
    mkdir -p $R/dev $R/proc $R/cf $R/run $R/tmp
    mount --rbind "$BIN" $R/cf
    [ -z "$NULL" ] || { touch $R/dev/null; mount --bind /dev/null $R/dev/null; }
    [ -z "$PROC" ] || mount -t proc proc $R/proc
    unset CLEANFORK_SOCKET CLEANFORK_DAEMON
    """
    PRIVATE = "exec chroot $R /cf/cleanfork spawn --private -- echo works"
    SERVE = """
    chroot $R /cf/cleanfork serve --socket /run/s/socket >$R/tmp/log 2>&1 &
    until chroot $R /cf/cleanfork spawn --socket /run/s/socket -- echo works 2>/dev/null; do
        kill -0 $! 2>/dev/null || { cat $R/tmp/log; exit 1; }
    done
    chroot $R /cf/cleanfork shutdown --socket /run/s/socket
    """

    def run_in(self, what, *, null="", proc=""):
        with tempfile.TemporaryDirectory() as root:
            env = {**os.environ, "R": root, "BIN": BIN, "NULL": null, "PROC": proc}
            return run("unshare", "--mount", "--pid", "--fork", "bash", "-c", self.PREPARE + what,
                       env=env)

    @SANITIZED
    def test_without_proc_both_kinds_of_forkserver_work(self):
        self.assertEqual(self.run_in(self.PRIVATE, null="1"), (0, "works\n", ""))
        code, out, err = self.run_in(self.SERVE, null="1")
        self.assertEqual((code, out), (0, "works\n"), err)

    def test_without_dev_null_the_message_names_it(self):
        code, out, err = self.run_in(self.PRIVATE, proc="1")
        self.assertEqual((code, out), (125, ""))
        self.assertIn('"/dev/null": No such file or directory', err)
        code, out, err = self.run_in(self.SERVE, proc="1")
        self.assertEqual(code, 1, err)
        self.assertIn("/dev/null", out + err)


if __name__ == "__main__":
    unittest.main()
