"""The test programs that are run on each kernel and under each profile, and what they say.

In a guest this file is the program that runs them all: programs.py ROOT. A line of JSON each.
"""

import glob
import json
import os
import re
import subprocess
import sys
import time
from typing import NamedTuple

PYTHON = "/usr/bin/python3"
MARK = "@@kernels "  # before each line of JSON, among whatever else the console shows
LIMIT = 300  # seconds for one, which leftovers.py scales

# Folders of tests/integration, and files that judge by how long something takes or want the whole
# machine: they say nothing of a kernel.
INTEGRATION = ("attributes", "client", "lifetimes", "listening", "templates")
LEFT_OUT = {"templates/many.cpp"}
COMMAND = ("test_spawn_attributes", "test_spawn_pty", "test_trees", "test_left_behind",
           "test_identity", "test_restarts")
PACKAGE = ("test_process_tree", "test_trees", "test_lost_forkserver", "test_process_groups",
           "test_multiprocessing", "test_pty")


class Program(NamedTuple):
    name: str
    directory: str
    argv: list


class Result(NamedTuple):
    name: str
    ran: int
    failed: int
    skipped: int
    seconds: float
    output: str


def unittest_program(name, directory):
    return Program(f"{os.path.basename(directory)}/{name}", directory,
                   [PYTHON, "-m", "unittest", "-v", name])


def scenes(root):
    return unittest_program("scenes", f"{root}/tests/kernels")


def programs(root):
    """All of them, of the tree at `root`; the binaries are in CLEANFORK_BIN."""
    bins, tests = os.environ["CLEANFORK_BIN"], f"{root}/tests"
    found = [scenes(root)]
    for name in ("unit_tests", "unit_daemon_tests"):
        found.append(Program(name, root, [f"{bins}/{name}"]))
    for folder in INTEGRATION:
        for path in sorted(glob.glob(f"{tests}/integration/{folder}/*.cpp")):
            file = f"{folder}/{os.path.basename(path)}"
            with open(path) as source:
                if file not in LEFT_OUT and "TEST_CASE" in source.read():
                    found.append(Program(f"integration/{file}", root, [
                        f"{bins}/integration_tests", f"--source-file=*/integration/{file}"]))
    found += [unittest_program(name, f"{tests}/cli") for name in COMMAND]
    found += [unittest_program(name, f"{tests}/python") for name in PACKAGE]
    return found


def counted(name, status, output, seconds):
    """What doctest or unittest say of themselves at the end."""
    doctest = re.search(r"test cases: +(\d+) \| +\d+ passed \| +(\d+) failed", output)
    if doctest:
        ran, failed, skipped = int(doctest[1]), int(doctest[2]), 0
    else:
        told = dict(re.findall(r"(failures|errors|skipped)=(\d+)", output))
        ran = re.search(r"^Ran (\d+) tests? in", output, re.M)
        ran = int(ran[1]) if ran else 0
        failed = int(told.get("failures", 0)) + int(told.get("errors", 0))
        skipped = int(told.get("skipped", 0))
    if status != 0 and failed == 0 or ran == 0:
        failed += 1  # it hung, or left something behind
    return Result(name, ran, failed, skipped, round(seconds, 1), output)


def run(root, program, environment=None):
    """Runs one under leftovers.py."""
    begin = time.monotonic()
    p = subprocess.run([PYTHON, f"{root}/tests/helpers/leftovers.py", "--limit", str(LIMIT),
                        *program.argv], cwd=program.directory,
                       env={**os.environ, "CLEANFORK_TEST": program.name, **(environment or {})},
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       text=True, errors="replace")
    return counted(program.name, p.returncode, p.stdout, time.monotonic() - begin)


def main():
    root, wanted = sys.argv[1], sys.argv[2:]
    for program in programs(root):
        if wanted and not any(word in program.name for word in wanted):
            continue
        print(MARK + json.dumps(["begin", program.name]), flush=True)
        result = run(root, program)
        if result.failed == 0:  # the console is slow
            told = re.findall(r"\b(?:features|tree|lost):.*|.*skipped.*$", result.output, re.M)
            result = result._replace(output="\n".join(told))
        print(MARK + json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
