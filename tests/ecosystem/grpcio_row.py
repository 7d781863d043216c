"""grpcio, sync and asyncio, with its support of forks unset, off and on."""

import json
import os
import signal
import subprocess
import sys

import told

TITLE = "gRPC: grpcio, sync and asyncio"
PACKAGES = ["grpcio"]
METHODS = ["fork", "spawn", "cleanfork"]
SHORT_METHODS = ["cleanfork"]
ROUNDS = 1
LINE = ("`cleanfork.get_context()` for processes, `import cleanfork.subprocess as subprocess` for "
        "programs; `GRPC_ENABLE_FORK_SUPPORT` may be anything")
WHAT = "a process that calls the server of its parent, start to end: "
DIFFERENT = ("a program with a live server and a busy channel starts {cleanfork[all]:.0f} processes "
             "that call it. They did: by cleanfork {cleanfork[table]}; by fork {fork[table]}; by "
             "spawn {spawn[table]}. Of {cleanfork[all_programs]:.0f} programs started by "
             "`subprocess` (with `preexec_fn`, as in grpc/grpc#43055) {fork[programs]:.0f} ran, and "
             "by `cleanfork.subprocess` {cleanfork[programs]:.0f}. No Python of gRPC may be used in "
             "the imports of a template: it is refused")
CHILDREN = told.scaled(6, 3)
SETTINGS = told.scaled(("unset", "0", "1"), ("unset", "1"))
HERE = os.path.dirname(os.path.abspath(__file__))
TIMEOUT = 60


def run(kind, setting):
    """What the program told; {} when it did not end, or crashed."""
    env = {**os.environ, "GRPC_VERBOSITY": "NONE"}
    env.pop("GRPC_ENABLE_FORK_SUPPORT", None)
    if setting != "unset":
        env["GRPC_ENABLE_FORK_SUPPORT"] = setting
    program = subprocess.Popen(
        [sys.executable, f"{HERE}/parts/grpc_program.py", told.METHOD, kind, str(CHILDREN)],
        env=env, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        out, _ = program.communicate(timeout=TIMEOUT)
        return json.loads(out) if program.returncode == 0 else {}
    except subprocess.TimeoutExpired:
        os.killpg(program.pid, signal.SIGKILL)
        program.communicate()
        return {}


def main():
    words, seconds, good, programs, total = [], [], 0, 0, 0
    for kind in ("sync", "aio"):
        counts = []
        for setting in SETTINGS:
            one = run(kind, setting)
            counts.append(f"{one['children']} with {setting}" if one else f"hung with {setting}")
            seconds += one.get("seconds", [])
            good += one.get("children", 0)
            programs += one.get("programs", 0)
            total += CHILDREN
        words.append(f"{kind} {', '.join(counts)}")
    table = f"{good} ({'; '.join(words)})"
    if told.METHOD == "cleanfork":
        assert (good, programs) == (total, 5 * total), table
    told.done("done", sum(seconds) / len(seconds) if seconds else float("nan"), table=table,
              all=total, programs=programs, all_programs=5 * total)


if __name__ == "__main__":
    main()
