"""Whose rights and limits the child of the command has, with every forkserver there is."""

import os
import shutil
import subprocess
import unittest

from support import CLEANFORK, DEADLINE, CommandTest, Server

NOBODY = 65534
ROOT = os.geteuid() == 0 and shutil.which("setpriv") is not None

# What a shell may have set before the command.
STATE = ("sh", "-c", "cut -d' ' -f19,41 /proc/self/stat; ulimit -Sn; ulimit -Hn; "
         "cat /proc/self/oom_score_adj; "
         "grep -E '^(Uid|Gid|Groups|NoNewPrivs|Cap(Bnd|Amb|Inh|Eff)|Cpus_allowed_list)' "
         "/proc/self/status")
FIRST_CPU = str(min(os.sched_getaffinity(0)))
AROUND = {
    "nice": ("nice", "-n", "7"),
    "limit": ("prlimit", "--nofile=77:99"),
    "processors": ("taskset", "-c", FIRST_CPU),
    "policy": ("chrt", "--batch", "0"),
    "oom": ("choom", "-n", "321", "--"),
    "no_new_privs": ("setpriv", "--no-new-privs"),
    "bounding": ("setpriv", "--bounding-set=-net_raw"),
    "groups": ("setpriv", "--groups=7,8"),
    "ambient": ("setpriv", "--inh-caps=+kill", "--ambient-caps=+kill"),
}
ROOT_S = ("bounding", "groups", "ambient")


class Identity(CommandTest):
    def serve(self, **how):
        server = Server(**how)
        self.addCleanup(server.close)
        return server

    def run_around(self, around, *command, socket=None):
        env = {**self.environment, **({"CLEANFORK_SOCKET": socket} if socket else {})}
        done = subprocess.run([*around, *command], env=env, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=DEADLINE, check=False)
        self.assertEqual(done.returncode, 0, done)
        return done

    def test_it_is_what_the_bare_command_would_be(self):
        server = self.serve()
        for name, around in AROUND.items():
            if name in ROOT_S and not ROOT:
                continue
            bare = self.run_around(around, *STATE).stdout
            for where, options, path in (
                    ("private", ("--private",), None), ("no server", (), None),
                    ("default", (), server.socket), ("named", ("--socket", server.socket), None)):
                with self.subTest(name, where=where):
                    done = self.run_around(around, CLEANFORK, "spawn", *options, "--", *STATE,
                                           socket=path)
                    self.assertEqual((done.stdout, done.stderr), (bare, ""))

    def test_all_at_once(self):
        server = self.serve()
        around = [word for name, words in AROUND.items() if ROOT or name not in ROOT_S
                  for word in words]
        bare = self.run_around(around, *STATE).stdout
        done = self.run_around(around, CLEANFORK, "spawn", "--", *STATE, socket=server.socket)
        self.assertEqual((done.stdout, done.stderr), (bare, ""))

    def test_a_forkserver_that_happens_to_run_and_cannot_give_it_is_passed_over(self):
        server = self.serve(under=("setpriv", "--no-new-privs"))
        bare = self.run_around((), *STATE).stdout
        done = self.run_around((), CLEANFORK, "spawn", "--", *STATE, socket=server.socket)
        self.assertEqual(done.stdout, bare)
        self.assertIn("no_new_privs", done.stderr)
        self.assertIn("using a private one", done.stderr)
        named = subprocess.run([CLEANFORK, "spawn", "--socket", server.socket, "true"],
                               capture_output=True, text=True, timeout=DEADLINE, check=False)
        self.assertEqual(named.returncode, 125, named)
        self.assertIn("identity", named.stderr)
        like_it = self.run_around((), CLEANFORK, "spawn", "--socket", server.socket,
                                  "--identity", "forkserver", "--", *STATE)
        self.assertIn("NoNewPrivs:\t1", like_it.stdout)

    @unittest.skipUnless(ROOT, "needs root and setpriv")
    def test_nobody_gets_more_than_his_own_of_another_s_forkserver(self):
        server = self.serve()
        os.chmod(server.directory, 0o755)
        os.chmod(server.socket, 0o666)
        lent = os.open(CLEANFORK, os.O_RDONLY)
        self.addCleanup(os.close, lent)
        done = subprocess.run(
            ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
             f"/proc/self/fd/{lent}", "spawn", "--socket", server.socket, "id"],
            capture_output=True, text=True, pass_fds=[lent], cwd="/", timeout=DEADLINE,
            check=False)
        self.assertEqual((done.returncode, done.stdout), (125, ""), done)
        self.assertIn("belongs to uid 0", done.stderr)
        # Nor does one who does not ask its client.
        code = ("import os, socket, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
                "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
                "s.connect(sys.argv[1]); print(s.recv(4096))")
        raw = subprocess.run(["/usr/bin/python3", "-c", code, server.socket],
                             capture_output=True, text=True, timeout=DEADLINE, check=False)
        self.assertIn("a forkserver serves the user it runs as", raw.stdout)

    # ---- capabilities

    def capabilities(self, *options):
        text = self.output(*options, "--", "grep", "^Cap", "/proc/self/status")
        return {line[3:6]: int(line.split()[1], 16) for line in text.splitlines()}

    @unittest.skipUnless(ROOT, "needs root")
    def test_capabilities_as_setpriv_has_them(self):
        user = (f"--user={NOBODY}", f"--group={NOBODY}")
        kill, net_raw = 1 << 5, 1 << 13
        seen = self.capabilities(*user, "--ambient-caps=+kill,+net_raw")
        self.assertEqual([seen[s] for s in ("Amb", "Inh", "Prm", "Eff")], [kill | net_raw] * 4)
        self.assertEqual(self.capabilities(*user)["Eff"], 0)
        seen = self.capabilities("--bounding-set=-all,+kill")
        self.assertEqual((seen["Bnd"], seen["Eff"]), (kill, kill))
        self.assertEqual(self.capabilities("--inh-caps=+cap_net_raw")["Inh"], net_raw)

    def test_a_list_of_capabilities_that_is_none_is_refused(self):
        for text in ("net_raw", "+nothing", "", "+kill,,-chown"):
            done = self.spawn(f"--ambient-caps={text}", "true")
            self.assertEqual(done.returncode, 125, text)
            self.assertIn("--ambient-caps", done.stderr)
        self.assertIn("--identity", self.spawn("--identity=root", "true").stderr)


if __name__ == "__main__":
    unittest.main()
