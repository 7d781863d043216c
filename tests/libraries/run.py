"""./dev libraries [NAME...]: libraries of PyPI that have threads, in children of a template.

Makes a virtual environment, installs them there, uses each in 100 children, once imported by
the main module and once by a preload, and prints a table. Exits with 1 when a result is wrong,
a program hangs, or a refusal does not say what to do.
"""

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
NAMES = ["numpy", "scipy", "pandas", "scikit-learn", "torch", "pyarrow", "polars", "grpcio",
         "opencv-python-headless"]
LARGE = {"torch": "its wheels on PyPI take 6 GB"}
TIMEOUT = 900


def install(venv, names):
    if not os.path.exists(f"{venv}/bin/python"):
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    done = subprocess.run([f"{venv}/bin/pip", "install", "--quiet", "--prefer-binary", *names],
                          text=True, stderr=subprocess.PIPE)
    if done.returncode != 0:
        sys.exit(f"libraries: they cannot be installed from PyPI: {done.stderr.strip()}")


def version(venv, name):
    (site,) = [f"{venv}/lib/{each}/site-packages" for each in os.listdir(f"{venv}/lib")]
    for found in importlib.metadata.distributions(path=[site]):
        if found.metadata["Name"].lower().replace("_", "-") == name:
            return found.version
    return "?"


def run(venv, name, mode):
    """What program.py told, or the last line of its exception."""
    command = [f"{venv}/bin/python", f"{HERE}/program.py", name, mode, str(given.children)]
    try:
        done = subprocess.run(command, text=True, timeout=TIMEOUT, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)
    except subprocess.TimeoutExpired:
        return f"did not end within {TIMEOUT} s"
    if done.returncode == 0:
        return json.loads(done.stdout)
    lines = [line for line in done.stderr.splitlines() if "not clean" in line]
    return (lines or done.stderr.splitlines() or ["no word"])[-1]


def verdict(told):
    if isinstance(told, str):
        return told, False
    good = told["right"] == told["children"] == given.children
    text = f"{told['right']} of {told['children']} right, {told['threads']} threads in each"
    if "fresh" in told:
        text += f", product {told['product'] / told['fresh']:.2f} of a fresh process's time"
    return text, good


def judge(venv, name):
    """Lines of the table, and whether all is as it should be."""
    good = True
    for mode in ("main", "preload"):
        begun = time.monotonic()
        told = run(venv, name, mode)
        text, right = verdict(told)
        refused = isinstance(told, str) and "not clean" in told
        if refused:
            library = told.partition("not clean: ")[2].partition(";")[0]
            text, right = f"refused: {library}", "import it in the child" in told
        yield mode, text, time.monotonic() - begun
        good &= right
        if refused:
            break
    if refused:
        begun = time.monotonic()
        text, right = verdict(run(venv, name, "child"))
        yield "child", text, time.monotonic() - begun
        good &= right
    if not good:
        failed.append(name)


failed = []
parser = argparse.ArgumentParser()
parser.add_argument("--venv", required=True)
parser.add_argument("--children", type=int, default=100)
parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
given = parser.parse_args()


def main():
    for name in set(given.names) - set(NAMES):
        parser.error(f"{name} is none of {', '.join(NAMES)}")
    names = given.names or [name for name in NAMES if name not in LARGE]
    for name in () if given.names else LARGE:
        print(f"libraries: {name} is left out unless it is named: {LARGE[name]}")
    install(given.venv, names)
    print("| library | version | imported by | verdict | seconds |\n|---|---|---|---|---|")
    for name in names:
        for mode, text, seconds in judge(given.venv, name):
            print(f"| {name} | {version(given.venv, name)} | {mode} | {text} | {seconds:.1f} |",
                  flush=True)
    if failed:
        sys.exit(f"libraries: not as it should be: {', '.join(failed)}")


if __name__ == "__main__":
    main()
