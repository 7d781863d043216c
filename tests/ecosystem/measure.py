"""Runs a program, and looks at the memory of all that it started, and at what it leaves."""

import json
import os
import signal
import subprocess
import time
import uuid

PATIENCE = 10.0  # seconds that what was started may take to end after the program
LOOK_AGAIN = 0.05


class Failed(Exception):
    pass


def _of(mark):
    """The processes that have the variable: children of whatever parent."""
    wanted = f"ECOSYSTEM_RUN={mark}".encode()
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    if wanted in file.read().split(b"\0"):
                        yield int(name)
            except (OSError, ValueError):  # it has ended, or is another's
                pass


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


def _left(mark):
    """What has not ended in time, by name; it is ended."""
    give_up = time.monotonic() + PATIENCE
    while True:
        left = {pid: _command(pid) for pid in _of(mark)}
        left = {pid: command for pid, command in left.items() if command}  # no zombies
        if not left:
            return []
        if time.monotonic() > give_up:
            break
        time.sleep(LOOK_AGAIN)
    for pid in left:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return list(left.values())


def run(command, timeout, env):
    """What it told, with "memory", "processes" and "seconds"; raises Failed."""
    mark = uuid.uuid4().hex
    begun = time.monotonic()
    program = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                               env={**os.environ, **env, "ECOSYSTEM_RUN": mark},
                               stderr=subprocess.PIPE, start_new_session=True)
    memory, processes, told = 0, 0, None
    errors = []
    import threading  # only here: so that a full pipe of errors stops nothing

    reader = threading.Thread(target=lambda: errors.extend(program.stderr))
    ender = threading.Timer(timeout, program.kill)
    reader.start()
    ender.start()
    try:
        for line in program.stdout:
            if line == "up\n":
                sizes = [pss(pid) for pid in _of(mark)]
                memory, processes = max(memory, sum(sizes)), len(sizes)
                program.stdin.write("go\n")
                program.stdin.flush()
            elif line.startswith("{"):
                told = json.loads(line)
        status = program.wait()
    finally:
        in_time = ender.is_alive()
        ender.cancel()
    seconds = time.monotonic() - begun
    left = _left(mark)
    reader.join()
    program.stdin.close()
    program.stdout.close()
    program.stderr.close()
    if status != 0 or told is None or left:
        why = [] if in_time else [f"did not end within {timeout} s"]
        why += [f"left behind: {each}" for each in left]
        raise Failed("\n".join([f"status {status}", *why, "".join(errors)[-6000:].strip()]))
    return {**told, "memory": memory, "processes": processes, "seconds": seconds}
