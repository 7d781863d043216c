"""Runs a program, and looks at the memory of all that it started, and at what it leaves."""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
import uuid

PATIENCE = 10.0  # seconds that what was started may take to end after the program
LOOK_AGAIN = 0.05


class Failed(Exception):
    pass


def _parents():
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat") as file:
                found[int(name)] = int(file.read().rpartition(")")[2].split()[1])
    return found


def _has(pid, mark):
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return f"ECOSYSTEM_RUN={mark}".encode() in file.read().split(b"\0")
    except OSError:  # it has ended, or is another's
        return False


def _of(mark):
    """The processes that have the variable, and theirs: one may have written its title over it."""
    parents = _parents()
    found = {pid for pid in parents if pid != os.getpid() and _has(pid, mark)}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found)


def pss(pid):
    """Bytes of memory, with its part of the pages that it shares; 0 once it has ended."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return 0


def _command(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace").strip()[:120]
    except OSError:
        return ""


def _end_all(mark):
    for pid in _of(mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _left(mark):
    """What has not ended in time, by name; it is ended."""
    give_up = time.monotonic() + PATIENCE
    while True:
        left = [command for command in map(_command, _of(mark)) if command]  # no zombies
        if not left:
            return []
        if time.monotonic() > give_up:
            _end_all(mark)
            return left
        time.sleep(LOOK_AGAIN)


def _listen(program, mark):
    """What it told at its end, if it did, and the memory that it had when all was up."""
    told, memory, processes = None, 0, 0
    for line in program.stdout:
        if line == "up\n":
            sizes = [pss(pid) for pid in _of(mark)]
            memory, processes = sum(sizes), len(sizes)
            program.stdin.write("go\n")
            program.stdin.flush()
        elif line.startswith("{"):
            told = json.loads(line)
    return told, memory, processes


def run(command, timeout, env):
    """What it told, with "memory", "processes" and "seconds"; raises Failed."""
    mark = uuid.uuid4().hex
    begun = time.monotonic()
    with contextlib.ExitStack() as ending:
        errors = ending.enter_context(tempfile.TemporaryFile("w+"))
        program = ending.enter_context(subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
            env={**os.environ, **env, "ECOSYSTEM_RUN": mark}, start_new_session=True))
        ending.callback(_end_all, mark)
        ender = threading.Timer(timeout, _end_all, (mark,))
        ending.callback(ender.cancel)
        ender.start()
        told, memory, processes = _listen(program, mark)
        status = program.wait()
        seconds = time.monotonic() - begun
        why = [] if ender.is_alive() else [f"did not end within {timeout} s"]
        why += [f"left behind: {each}" for each in _left(mark)]
        if status != 0 or told is None or why:
            errors.seek(0)
            raise Failed("\n".join([f"status {status}", *why, errors.read()[-6000:].strip()]))
    return {**told, "memory": memory, "processes": processes, "seconds": seconds}
