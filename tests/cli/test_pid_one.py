"""A forkserver that is PID 1: orphans of its children come to it, and are reaped."""

import os
import pathlib
import shutil
import signal
import unittest

from support import CommandTest, Server, await_true


def zombies_of(parent):
    found = []
    for each in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            state, ppid = each.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state == "Z" and int(ppid) == parent:
            found.append(each.parent.name)
    return found


class PidOne(CommandTest):
    def test_orphans_are_reaped_without_any_template(self):
        if os.geteuid() != 0 or shutil.which("unshare") is None:
            self.skipTest("only root may make a PID namespace, and unshare(1) is needed")
        server = Server(under=("unshare", "--pid", "--fork", "--kill-child"))
        pid = server.process.pid
        daemon = int(pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text())
        try:
            for _ in range(5):
                done = self.cleanfork("spawn", "--socket", server.socket, "--identity", "forkserver",
                                      "sh", "-c", "sleep 0 & sleep 0 & exit 0")
                self.assertEqual(done.returncode, 0, done.stderr)
            await_true(lambda: not zombies_of(daemon))
        finally:
            os.kill(daemon, signal.SIGTERM)  # unshare(1) itself waits for it
            server.close()


if __name__ == "__main__":
    unittest.main()
