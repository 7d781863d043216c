"""./dev systemd [--fresh]: the units under a real systemd, booted in a root of Debian 12.

The root is made by debootstrap the first time, in build/systemd, with what the programs are linked
with; systemd-nspawn boots it with the programs and units of the build, and what is told here is done
inside, by nsenter. As root.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TREE = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, f"{TREE}/tests/helpers")
from patience import PATIENCE

ROOT = f"{TREE}/build/systemd/debian-12"
PACKAGES = "systemd,systemd-sysv,dbus,libprotobuf32,procps"
PLACE = "/usr/local"  # of what is not a package
UNIT = "cleanforkd.service"
SOCKET = "/run/cleanfork/socket"


def make_root(fresh):
    if fresh:
        shutil.rmtree(ROOT, ignore_errors=True)
    if os.path.exists(f"{ROOT}/root/.made"):
        return
    shutil.rmtree(ROOT, ignore_errors=True)
    print("systemd: debootstrap, minutes", flush=True)
    subprocess.run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", ROOT],
                   check=True, stdout=subprocess.DEVNULL)
    with open(f"{ROOT}/root/.made", "w", encoding="ascii"):
        pass


def put_in(build):
    """Programs and units, as `cmake --install` puts them."""
    for name in ("cleanfork", "cleanforkd"):
        shutil.copy(f"{build}/bin/{name}", f"{ROOT}{PLACE}/bin/{name}")
    shutil.copy(f"{build}/bin/test-helpers/template_program", f"{ROOT}{PLACE}/bin/worker")
    for kind in ("system", "user"):
        shutil.copytree(f"{build}/package/systemd/{kind}", f"{ROOT}{PLACE}/lib/systemd/{kind}",
                        dirs_exist_ok=True)
    os.makedirs(f"{ROOT}/etc/cleanfork", exist_ok=True)
    shutil.rmtree(f"{ROOT}/etc/systemd/system/{UNIT}.d", ignore_errors=True)


class Machine:
    """The booted root."""

    def __init__(self):
        self.console = open(f"{ROOT}/../console.txt", "wb")
        self.nspawn = subprocess.Popen(
            ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network",
             "-D", ROOT, "-b", "--console=pipe"],
            stdin=subprocess.DEVNULL, stdout=self.console, stderr=self.console)
        self.init = None

    def boot(self):
        children = f"/proc/{self.nspawn.pid}/task/{self.nspawn.pid}/children"

        def found():
            with contextlib.suppress(OSError):
                with open(children, encoding="ascii") as file:
                    for pid in file.read().split():
                        with open(f"/proc/{pid}/comm", encoding="ascii") as comm:
                            if comm.read() == "systemd\n":
                                self.init = int(pid)
            return self.init

        self.until("it has an init", found)
        self.until("it runs", lambda: self.run("systemctl", "is-system-running").stdout.strip()
                   in ("running", "degraded"))

    def until(self, what, holds):
        deadline = time.monotonic() + PATIENCE * 2
        while not holds():
            if time.monotonic() > deadline or self.nspawn.poll() is not None:
                raise SystemExit(f"systemd: it did not come to that {what}\n" + self.journal())
            time.sleep(0.1)  # a booting machine has no event for who is outside

    def run(self, *words, **options):
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE,
                   "stderr": subprocess.PIPE, "text": True, "check": False, **options}
        return subprocess.run(["nsenter", "-t", str(self.init), "-a", *words],
                              timeout=PATIENCE * 3, env={"PATH": f"{PLACE}/bin:/usr/bin:/usr/sbin"},
                              **options)

    def client(self, *words):
        """cleanfork as a service of its own: what enters from outside has more capabilities, and
        a forkserver tells so."""
        return self.run("systemd-run", "--quiet", "--pipe", "--wait", f"{PLACE}/bin/cleanfork",
                        *words)

    def said(self, *words):
        done = self.client(*words[1:]) if words[0] == "cleanfork" else self.run(*words)
        if done.returncode != 0:
            raise SystemExit(f"systemd: {words}: {done.stdout}{done.stderr}\n{self.journal()}")
        return done.stdout

    def journal(self):
        if self.init is None:
            return ""
        return self.run("journalctl", "--no-pager", "-n", "40", "-u", UNIT).stdout

    def show(self, *names):
        told = self.said("systemctl", "show", UNIT, *(f"-p{n}" for n in names))
        return dict(line.split("=", 1) for line in told.splitlines())

    def off(self):
        if self.init is not None and self.nspawn.poll() is None:
            self.run("systemctl", "poweroff")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.nspawn.wait(PATIENCE)
        if self.nspawn.poll() is None:
            self.nspawn.terminate()
            self.nspawn.wait(PATIENCE)
        self.console.close()


def write(path, text):
    os.makedirs(os.path.dirname(ROOT + path), exist_ok=True)
    with open(ROOT + path, "w", encoding="utf-8") as file:
        file.write(text)


def check(holds, what, machine):
    if not holds:
        raise SystemExit(f"systemd: not so: {what}\n{machine.journal()}")
    print(f"ok  {what}", flush=True)


WORKER = f'[template.worker]\nprogram = "{PLACE}/bin/worker"\nwarm = {{}}\n'


def start_and_activate(m):
    write("/etc/cleanfork/cleanforkd.toml", WORKER.format(1))
    m.said("systemctl", "start", "cleanforkd.socket")
    check(m.show("ActiveState")["ActiveState"] == "inactive", "the socket alone starts nothing", m)
    check(m.said("cleanfork", "spawn", "--socket", SOCKET, "echo", "hello") == "hello\n", "the first client starts it", m)
    told = m.show("ActiveState", "StatusText", "Delegate", "MainPID")
    check((told["ActiveState"], told["Delegate"]) == ("active", "yes"), "it is active", m)
    check(told["StatusText"].startswith("Serving"), "its status is told", m)
    m.until("the template of the file is ready", lambda: " ready " in m.said(
        "cleanfork", "template", "list"))
    called = m.client("call", "worker", "nothing")
    check(called.returncode == 0, f"a template of the file serves calls {called.stderr}", m)
    return told["MainPID"]


def reload_it(m, pid):
    child = m.said("cleanfork", "spawn", "--socket", SOCKET, "-d", "sleep", "1000").split()[0]
    write("/etc/cleanfork/cleanforkd.toml", "max-sesions = 3\n")
    m.said("systemctl", "reload", UNIT)
    m.until("the error is in the journal", lambda: "cleanforkd.toml:1:1: " in m.journal())
    check("did you mean" in m.journal(), "a wrong file is told with its line", m)
    write("/etc/cleanfork/cleanforkd.toml", WORKER.format(2))
    m.said("systemctl", "reload", UNIT)
    m.until("the template is reloaded", lambda: json.loads(
        m.said("cleanfork", "template", "list", "--json"))[0]["generation"] == 2)
    check(m.show("MainPID", "ActiveState") == {"MainPID": pid, "ActiveState": "active"},
          "it is the same process after the reloads", m)
    check([c for c in json.loads(m.said("cleanfork", "ps", "--json")) if c["child"] == int(child)],
          "and has its child", m)
    m.said("cleanfork", "kill", "-9", child)


def restart_it(m, pid):
    m.said("systemctl", "restart", UNIT)
    now = m.show("MainPID", "ActiveState")
    check(now["ActiveState"] == "active" and now["MainPID"] != pid, "it is restarted", m)
    m.said("systemctl", "kill", "-s", "KILL", "--kill-who=main", UNIT)
    m.until("it is started again", lambda: m.show("NRestarts")["NRestarts"] == "1"
            and m.show("SubState")["SubState"] == "running")
    check(m.said("cleanfork", "spawn", "--socket", SOCKET, "echo", "again") == "again\n", "one that was killed is back", m)


def watchdog(m):
    write(f"/etc/systemd/system/{UNIT}.d/watchdog.conf", "[Service]\nWatchdogSec=2\n")
    m.said("systemctl", "daemon-reload")
    m.said("systemctl", "restart", UNIT)
    before = m.show("MainPID", "NRestarts")
    time.sleep(5)  # the watchdog's own time, twice and more
    check(m.show("MainPID", "NRestarts") == before, "one that turns is left alone", m)
    m.said("systemctl", "kill", "-s", "STOP", "--kill-who=main", UNIT)
    m.until("the watchdog has ended it", lambda: m.show("MainPID")["MainPID"]
            not in ("0", before["MainPID"]))
    check("watchdog" in m.journal().lower(), "one that stands still is ended, and begun again", m)
    check(m.said("cleanfork", "spawn", "--socket", SOCKET, "echo", "well") == "well\n", "and serves", m)
    os.unlink(f"{ROOT}/etc/systemd/system/{UNIT}.d/watchdog.conf")
    m.said("systemctl", "daemon-reload")


def hardened(m):
    shutil.copy(f"{TREE}/client/packaging/systemd/hardened.conf",
                f"{ROOT}/etc/systemd/system/{UNIT}.d/hardened.conf")
    m.said("systemctl", "daemon-reload")
    m.said("systemctl", "restart", UNIT)
    refused = m.client("spawn", "--socket", SOCKET, "true")
    check(refused.returncode != 0 and "another mount namespace" in refused.stderr,
          f"in the sandbox a caller outside is told what differs: {refused.stderr.strip()}", m)
    told = m.said("cleanfork", "spawn", "--socket", SOCKET, "--identity", "forkserver", "--chdir", "/", "grep",
                  "NoNewPrivs", "/proc/self/status")
    check(told.split()[1] == "1", "a child that is as the forkserver runs there", m)
    os.unlink(f"{ROOT}/etc/systemd/system/{UNIT}.d/hardened.conf")
    m.said("systemctl", "daemon-reload")


def stop_it(m):
    m.said("systemctl", "restart", UNIT)
    child = m.said("cleanfork", "spawn", "--socket", SOCKET, "-d", "sleep", "1000").split()[1]
    m.said("systemctl", "stop", "cleanforkd.socket", UNIT)
    told = m.show("ActiveState", "Result")
    check(told == {"ActiveState": "inactive", "Result": "success"}, "it stops well", m)
    check(m.run("test", "-S", SOCKET).returncode != 0, "and its socket is gone", m)
    check(m.run("kill", "-0", child).returncode == 0, "a child that is to be kept is", m)
    m.said("kill", "-9", child)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--build", default=f"{TREE}/build/dev")
    given = parser.parse_args()
    make_root(given.fresh)
    put_in(given.build)
    machine = Machine()
    try:
        machine.boot()
        pid = start_and_activate(machine)
        reload_it(machine, pid)
        restart_it(machine, pid)
        watchdog(machine)
        hardened(machine)
        stop_it(machine)
    finally:
        machine.off()
    print("systemd: all of it")


if __name__ == "__main__":
    main()
