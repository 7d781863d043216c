"""What the program is when it starts a process, that process is: never more."""

import os
import subprocess
import sys
import tempfile
import unittest

from mp_support import Program
from support import DEADLINE, run_python

NOBODY = 65534
NEEDS_ROOT = unittest.skipUnless(os.geteuid() == 0, "needs root, to give it up")

# Each way to a process says who that is; CHANGE happens once the forkserver and the template run.
PROGRAM = """
import asyncio, ctypes, os, sys
import cleanfork, cleanfork.asyncio
import cleanfork.subprocess as subprocess

# -p: else the shell itself gives up another effective user.
SHOW = ["sh", "-pc", "grep -E '^(Uid|Groups|NoNewPrivs|CapBnd):' /proc/self/status; "
        "cut -d' ' -f19 /proc/self/stat"]

def status():
    with open("/proc/self/status") as f:
        kept = [l for l in f if l.startswith(("Uid:", "Groups:", "NoNewPrivs:", "CapBnd:"))]
    return "".join(kept) + str(os.getpriority(os.PRIO_PROCESS, 0)) + chr(10)

def process(w): w.send(status())

def with_process(ctx):
    r, w = ctx.Pipe(False)
    p = ctx.Process(target=process, args=(w,))
    p.start()
    w.close()
    seen = r.recv()
    p.join()
    return seen

async def with_asyncio():
    p = await cleanfork.asyncio.create_subprocess_exec(*SHOW, stdout=subprocess.PIPE)
    return (await p.communicate())[0].decode()

def outcome(f, *args):
    try: return f(*args)
    except cleanfork.SpawnError as e: return f"{e.step} {e.object}"
    except Exception as e: return type(e).__name__

if __name__ == "__main__":
    ctx = cleanfork.get_context()
    assert with_process(ctx) == status()
    libc = ctypes.CDLL(None, use_errno=True)
    CHANGE
    ways = {
        "run": outcome(lambda: subprocess.run(SHOW, capture_output=True, text=True).stdout),
        "asyncio": outcome(lambda: asyncio.run(with_asyncio())),
        "process": outcome(with_process, ctx),
    }
    AFTER
    try: expected = status()
    except OSError: expected = None
    for way, seen in ways.items():
        print(way, "same" if seen == expected else repr(seen), flush=True)
"""


class Identity(unittest.TestCase):
    def outcomes(self, change, after="pass"):
        """What each way gave: "same" when it is what the program is."""
        text = PROGRAM.replace("CHANGE", change).replace("AFTER", after)
        with Program(text) as program:
            os.chmod(program.directory.name, 0o755)
            p = program.start()
            out, err = p.communicate(timeout=DEADLINE)
            self.assertEqual(p.returncode, 0, err)
            return dict(line.split(" ", 1) for line in out.splitlines())

    def assert_same(self, change, ways=("run", "asyncio", "process")):
        self.assertEqual(self.outcomes(change), dict.fromkeys(ways, "same"))

    def assert_refused(self, change, what, ways=("run", "asyncio", "process")):
        outcomes = self.outcomes(change)
        for way in ways:
            self.assertEqual(outcomes[way], repr(f"identity {what}"), way)

    @NEEDS_ROOT
    def test_root_that_was_given_up_nobody_gets_back(self):
        self.assert_same(f"os.setgroups([7]); os.setgid({NOBODY}); os.setuid({NOBODY})")

    @NEEDS_ROOT
    def test_another_effective_user_alone(self):
        # The saved one is what an exec makes of it, in a process as well.
        change = f"os.setegid({NOBODY}); os.seteuid({NOBODY})"
        for way, seen in self.outcomes(change).items():
            self.assertIn(f"Uid:\\t0\\t{NOBODY}\\t{NOBODY}\\t{NOBODY}", seen, way)

    @NEEDS_ROOT
    def test_the_groups_alone(self):
        self.assert_same("os.setgroups([7, 4242])")

    def test_no_new_privs(self):
        self.assert_same("assert libc.prctl(38, 1, 0, 0, 0) == 0")

    @NEEDS_ROOT
    def test_the_bounding_set(self):
        self.assert_same("assert libc.prctl(24, 13, 0, 0, 0) == 0")

    def test_the_niceness(self):
        self.assert_same("os.nice(3)")

    @NEEDS_ROOT
    def test_another_root_directory_is_told(self):
        # A process would not find its main module there, which is told first.
        self.assert_refused("os.chroot('/usr'); os.chdir('/')", "another root directory",
                            ("run", "asyncio"))

    @NEEDS_ROOT
    def test_another_namespace_is_told(self):
        self.assert_refused("assert libc.unshare(0x40000000) == 0", "another namespace (net)")
        self.assert_refused("assert libc.unshare(0x00020000) == 0", "another mount namespace")

    @NEEDS_ROOT
    def test_files_of_a_rotated_log_are_the_caller_s(self):
        # The first is opened by the caller; those after it by a process of the forkserver.
        code = f"""
import cleanfork, os, sys
session = cleanfork.client()
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
log = cleanfork.RotatedFile(sys.argv[1] + "/log", 4096, 9)
p = session.spawn("sh", ["-c", "seq 4000"], stdout=log, lifetime=cleanfork.KEEP)
assert p.wait(timeout=60).exited
def size():
    try:
        return sum(os.stat(f.path).st_size for f in os.scandir(sys.argv[1]))
    except FileNotFoundError:  # it has got another name meanwhile
        return 0
while size() < {sum(len(str(n)) + 1 for n in range(1, 4001))}: pass
"""
        with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
            os.chown(directory, NOBODY, NOBODY)
            self.assertEqual(run_python(code, directory).stderr, "")
            found = [os.stat(file.path) for file in os.scandir(directory)]
        self.assertGreater(len(found), 3)
        self.assertEqual({(file.st_uid, file.st_gid) for file in found}, {(NOBODY, NOBODY)})

    @NEEDS_ROOT
    def test_a_template_that_began_as_another_user_is_no_limit_for_root(self):
        if os.system(f"setpriv --reuid {NOBODY} --clear-groups -- {sys.executable} -c "
                     "'import cleanfork.template' 2>/dev/null"):
            self.skipTest(f"user {NOBODY} cannot import the package from where it is")
        program = """
import os, cleanfork
def uid(q): q.put(os.geteuid())
def started(ctx):
    q = ctx.SimpleQueue()
    p = ctx.Process(target=uid, args=(q,))
    p.start()
    p.join()
    return q.get()
if __name__ == "__main__":
    os.chdir("/")
    ctx = cleanfork.get_context()
    cleanfork.start()
    os.seteuid(65534)
    print(started(ctx))
    os.seteuid(0)
    print(started(ctx))
"""
        with tempfile.TemporaryDirectory(dir="/tmp") as home:  # where that user can go
            os.chmod(home, 0o755)
            path = os.path.join(home, "program.py")
            with open(path, "w") as file:
                file.write(program)
            p = subprocess.run([sys.executable, path], capture_output=True, text=True,
                               timeout=DEADLINE)
        self.assertEqual((p.returncode, p.stdout.split()), (0, [str(NOBODY), "0"]), p.stderr)

    @NEEDS_ROOT
    def test_as_the_forkserver_only_when_that_lends_its_rights(self):
        program = """
import os, cleanfork, subprocess
def uid(client):
    try:
        p = client.spawn("id", ["-u"], stdout=subprocess.PIPE, identity="forkserver", cwd="/")
    except cleanfork.SpawnError as e:
        return e.step
    with open(p.take_stdout(), closefd=True) as f:
        return f.read().strip()
if __name__ == "__main__":
    own = cleanfork.start()
    from cleanfork._cleanfork import launch
    lent = launch(lends_rights=True)
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
    print(uid(own), uid(lent))
"""
        with Program(program) as p:
            started = p.start()
            out, err = started.communicate(timeout=DEADLINE)
            self.assertEqual((started.returncode, out.split()), (0, ["identity", "0"]), err)


if __name__ == "__main__":
    unittest.main()
