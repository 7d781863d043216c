"""Each attribute `cleanfork spawn` can set, looked at in the real child."""

import json
import os
import pwd
import re
import resource
import shutil
import subprocess
import unittest

from support import CLEANFORK, CommandTest, read_line

STATUS = ("cat", "/proc/self/status")


class Attributes(CommandTest):
    def status(self, *options, **more):
        """/proc/self/status of the child as a dictionary."""
        lines = self.output(*options, *STATUS, **more).splitlines()
        return dict(line.split(":\t", 1) for line in lines)

    def stat(self, *options):
        """/proc/self/stat of the child from the state on: field 3 of proc(5) is [0]."""
        return self.output(*options, "cat", "/proc/self/stat").rpartition(") ")[2].split()

    # ---- process

    def test_umask_is_that_of_the_command_or_the_one_given(self):
        self.assertEqual(self.status(preexec_fn=lambda: os.umask(0o077))["Umask"], "0077")
        self.assertEqual(self.status("--umask", "027")["Umask"], "0027")

    @unittest.skipUnless(os.geteuid() == 0 and shutil.which("setpriv"), "needs root and setpriv")
    def test_a_directory_that_may_not_be_searched_is_not_replaced_by_another(self):
        server = self.serve()
        closed = os.path.realpath(os.path.join(self.home, "closed"))
        os.mkdir(closed, 0)
        no_dac = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", CLEANFORK, "spawn")

        def run(*args):
            return subprocess.run([*no_dac, *args], env=self.environment, capture_output=True,
                                  preexec_fn=lambda: os.chdir(closed), text=True, check=False)

        for where in (("--private",), ("--socket", server.socket)):
            done = run(*where, "readlink", "/proc/self/cwd")
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, closed + "\n", ""))
        refused = run("--socket", server.socket, "--user", "54321", "--group", "54321", "pwd")
        self.assertEqual((refused.returncode, refused.stdout), (125, ""))
        self.assertIn("chdir", refused.stderr)
        self.assertIn("EACCES", refused.stderr)

    def test_the_child_leads_a_process_group_of_its_own(self):
        pid, _, group, session = self.ids()
        self.assertEqual(group, pid)
        self.assertNotEqual(session, pid)
        pid, _, group, _ = self.ids("--process-group", "0")
        self.assertEqual(group, pid)

    def test_setsid_makes_it_leader_of_a_session(self):
        pid, _, group, session = self.ids("--setsid")
        self.assertEqual((group, session), (pid, pid))

    def test_it_can_join_a_process_group_of_the_forkservers_session(self):
        server = self.serve()
        holder = self.start("--socket", server.socket, "sh", "-c", "echo ready; exec cat")
        self.assertEqual(read_line(holder.stdout), "ready")
        group = self.only_child(server)["pid"]
        _, _, joined, _ = self.ids("--socket", server.socket, "--process-group", str(group))
        self.assertEqual(joined, group)
        holder.stdin.close()
        self.assertEqual(holder.wait(), 0)

    def ids(self, *options):
        """pid, parent, process group, session"""
        pid, rest = self.output(*options, "sh", "-c", "echo $$; cat /proc/$$/stat").split("\n", 1)
        fields = rest.rpartition(") ")[2].split()
        return [int(pid)] + [int(fields[i]) for i in (1, 2, 3)]

    def only_child(self, server):
        children = json.loads(self.cleanfork("ps", "--json", "--socket", server.socket).stdout)
        self.assertEqual(len(children), 1)
        return children[0]

    # ---- limits and scheduling

    def test_resource_limits_are_set_with_names_suffixes_and_unlimited(self):
        limits = self.output("--rlimit", "nofile=100:200", "--rlimit", "core=0",
                             "--rlimit", "as=4G", "--rlimit", "stack=8M:unlimited",
                             "--rlimit", "cpu=1000", "cat", "/proc/self/limits")
        for name, soft, hard in (("Max open files", "100", "200"),
                                 ("Max core file size", "0", "0"),
                                 ("Max address space", str(4 << 30), str(4 << 30)),
                                 ("Max stack size", str(8 << 20), "unlimited"),
                                 ("Max cpu time", "1000", "1000")):
            self.assertRegex(limits, rf"(?m)^{name} +{soft} +{hard} ")

    def test_every_limit_name_is_known_and_sets_the_limit_of_that_name(self):
        for name, number in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC),
                             ("core", resource.RLIMIT_CORE), ("cpu", resource.RLIMIT_CPU),
                             ("as", resource.RLIMIT_AS), ("data", resource.RLIMIT_DATA),
                             ("stack", resource.RLIMIT_STACK), ("fsize", resource.RLIMIT_FSIZE),
                             ("memlock", resource.RLIMIT_MEMLOCK), ("rss", resource.RLIMIT_RSS),
                             ("locks", 10), ("sigpending", resource.RLIMIT_SIGPENDING),
                             ("msgqueue", resource.RLIMIT_MSGQUEUE),
                             ("nice", resource.RLIMIT_NICE), ("rtprio", resource.RLIMIT_RTPRIO),
                             ("rttime", resource.RLIMIT_RTTIME)):
            with self.subTest(name):
                soft, hard = resource.getrlimit(number)
                # Lower than it is: that is allowed to everybody.
                wanted = 2_000_000_000 if soft == resource.RLIM_INFINITY else soft // 2
                shown = self.output("--rlimit", f"{name}={wanted}:{hard if hard >= 0 else 'unlimited'}",
                                    "/usr/bin/python3", "-S", "-c",
                                    f"import resource; print(*resource.getrlimit({number}))")
                self.assertEqual(shown, f"{wanted} {hard}\n")

    def test_niceness_is_absolute(self):
        self.assertEqual(self.stat("--nice", "7")[16], "7")

    def test_processors_are_those_listed(self):
        cpu = min(os.sched_getaffinity(0))
        self.assertEqual(self.status("--cpus", str(cpu))["Cpus_allowed_list"], str(cpu))

    def test_processors_that_do_not_exist_are_a_failed_step(self):
        done = self.spawn("--cpus", "8190", "true")
        self.assertEqual(done.returncode, 125)
        self.assertIn("affinity", done.stderr)

    def test_the_scheduling_policy_is_set(self):
        for policy, number in (("batch", os.SCHED_BATCH), ("idle", os.SCHED_IDLE)):
            self.assertEqual(self.stat("--sched", policy)[38], str(number))

    @unittest.skipUnless(os.geteuid() == 0, "real-time policies need root")
    def test_a_real_time_policy_has_its_priority(self):
        fields = self.stat("--sched", "fifo:10")
        self.assertEqual((fields[37], fields[38]), ("10", str(os.SCHED_FIFO)))

    def test_the_oom_score_is_adjusted(self):
        self.assertEqual(self.output("--oom-score-adj", "500", "cat", "/proc/self/oom_score_adj"),
                         "500\n")

    # ---- identity

    def test_no_new_privs_is_set_only_when_asked_for(self):
        self.assertEqual(self.status()["NoNewPrivs"], "0")
        self.assertEqual(self.status("--no-new-privs")["NoNewPrivs"], "1")

    @unittest.skipUnless(os.geteuid() == 0, "changing users needs root")
    def test_a_user_comes_with_its_groups(self):
        user = next(u for u in pwd.getpwall() if u.pw_uid not in (0,))
        groups = os.getgrouplist(user.pw_name, user.pw_gid)
        for name in (user.pw_name, str(user.pw_uid)):
            status = self.status("--user", name)
            self.assertEqual(status["Uid"].split(), [str(user.pw_uid)] * 4)
            self.assertEqual(status["Gid"].split(), [str(user.pw_gid)] * 4)
            self.assertEqual(sorted(map(int, status["Groups"].split())), sorted(groups))

    @unittest.skipUnless(os.geteuid() == 0, "changing users needs root")
    def test_user_group_and_groups_can_be_given_by_number(self):
        status = self.status("--user", "54321", "--group", "54322", "--groups", "7,daemon,9")
        self.assertEqual(status["Uid"].split(), ["54321"] * 4)
        self.assertEqual(status["Gid"].split(), ["54322"] * 4)
        self.assertEqual(status["Groups"].split(), ["1", "7", "9"])
        status = self.status("--user", "54321", "--group", "54322", "--groups", "")
        self.assertEqual(status["Groups"].split(), [])

    def test_an_unknown_uid_needs_a_group(self):
        done = self.spawn("--user", "54321", "true")
        self.assertEqual(done.returncode, 125)
        self.assertIn("--group", done.stderr)

    # ---- cgroup

    def test_a_cgroup_that_does_not_exist_is_a_failed_step(self):
        done = self.spawn("--cgroup", "/no/such/cgroup", "true")
        self.assertEqual(done.returncode, 125)
        self.assertIn('cgroup "/no/such/cgroup"', done.stderr)

    def test_the_child_is_born_in_its_cgroup(self):
        with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
            found = re.search(r"^\S+ \S+ \S+ \S+ (\S+) .* - cgroup2 ", mounts.read(), re.M)
        if not found or not os.access(found[1], os.W_OK):
            self.skipTest("no cgroup v2 that this user can write to")
        path = os.path.join(found[1], f"cleanfork-test-{os.getpid()}")
        os.mkdir(path)
        self.addCleanup(os.rmdir, path)
        for given in (path, os.path.basename(path)):
            shown = self.output("--cgroup", given, "cat", "/proc/self/cgroup", cwd=found[1])
            self.assertRegex(shown, rf"(?m)^0::.*/{os.path.basename(path)}$")


if __name__ == "__main__":
    unittest.main()
