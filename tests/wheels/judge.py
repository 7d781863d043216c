"""Installs a wheel into a new environment and runs the package's own tests there, as JSON.

    judge.py PYTHON WHEEL TESTS TOOLS [MODULE...]

Runs in the root that has nothing of ours; the interpreter that runs this is another one. TOOLS is
an environment with virtualenv, which brings pip to an interpreter that has none.
"""

import concurrent.futures
import glob
import json
import os
import re
import subprocess
import sys

LIMIT = 600  # seconds for a file, which leftovers.py scales
# What they look at is not in a wheel, or is another way to build the package.
LEFT_OUT = {"test_conformance", "test_wheel"}
VENV = "/opt/venv"


def quietly(*command):
    p = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                       stdin=subprocess.DEVNULL)
    if p.returncode != 0:
        sys.exit(f"{' '.join(command)} failed\n{p.stdout}")


def run_file(tests, module):
    environment = {"PATH": f"{VENV}/bin:/usr/bin:/bin", "HOME": "/root", "LANG": "C.UTF-8",
                   "PYTHONDONTWRITEBYTECODE": "1", "CLEANFORK_BIN": f"{VENV}/bin",
                   "CLEANFORK_TEST": f"wheels.{module}", "PYTHONPATH": f"{tests}/python",
                   "CLEANFORK_TEST_SLOWNESS": os.environ.get("CLEANFORK_TEST_SLOWNESS", "1")}
    p = subprocess.run(["/usr/bin/python3", f"{tests}/helpers/leftovers.py", "--limit", str(LIMIT),
                        f"{VENV}/bin/python", "-m", "unittest", "-v", module],
                       cwd=f"{tests}/python", env=environment, stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                       errors="replace")
    ran = re.search(r"^Ran (\d+) tests? in", p.stdout, re.M)
    told = dict(re.findall(r"(failures|errors|unexpected successes)=(\d+)", p.stdout))
    failed = sum(map(int, told.values()))
    # From 3.12 on the status tells a file of which all is skipped.
    if p.returncode != 0 and failed == 0 and "NO TESTS RAN (skipped=" not in p.stdout:
        failed = 1  # it hung, left something behind, or could not be imported
    return {"module": module, "ran": int(ran[1]) if ran else 0, "failed": failed,
            "skipped": re.findall(r"skipped ['\"](.*)['\"]$", p.stdout, re.M),
            "log": p.stdout if failed else ""}


def main():
    python, wheel, tests, tools, *modules = sys.argv[1:]
    own = subprocess.run([python, "-c", "import ensurepip"], stderr=subprocess.DEVNULL)
    quietly(*([python, "-m", "venv"] if own.returncode == 0 else
              [f"{tools}/bin/python", "-m", "virtualenv", "--no-download", "-p", python]), VENV)
    quietly(f"{VENV}/bin/python", "-m", "pip", "install", "--no-index", wheel)
    modules = modules or sorted({os.path.basename(path)[:-3] for path in
                                 glob.glob(f"{tests}/python/test_*.py")} - LEFT_OUT)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for result in pool.map(lambda module: run_file(tests, module), modules):
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
