"""./dev ecosystem [--short] NAME...: programs that people run, by their own way of making
processes and by cleanfork, in turns.

Each is a file NAME_row.py of this folder: what it needs, the line that it takes, and the program
itself, which runs in a virtual environment of its own. Fails when the results differ by the
method, when something is left running, or when a program fails. Writes the rows of
docs/ecosystem.md, but for --short, which runs each once with little to do.
"""

import argparse
import ast
import os
import signal
import statistics
import subprocess
import sys
import time

import measure
import page

HERE = os.path.dirname(os.path.abspath(__file__))
ROUNDS = 3
TIMEOUT = 300
SKIPPED = 77  # the status, as of automake
NAMES = ["futures", "torch", "joblib", "servers", "grpcio", "pytest", "celery", "dask", "ray",
         "airflow"]
SHORT = ["futures", "joblib", "servers", "grpcio", "pytest"]


class Row:
    """What NAME_row.py says of itself: its constants, read without running it."""

    def __init__(self, name):
        self.name, self.path = name, f"{HERE}/{name}_row.py"
        with open(self.path) as file:
            text = file.read()
        said = {}
        for each in ast.parse(text).body:
            if isinstance(each, ast.Assign) and each.targets[0].id.isupper():
                try:
                    said[each.targets[0].id] = ast.literal_eval(each.value)
                except ValueError:
                    pass  # it is the program's own
        self.title, self.line, self.different = said["TITLE"], said["LINE"], said["DIFFERENT"]
        self.packages = said["PACKAGES"]
        self.short_packages = said.get("SHORT_PACKAGES", self.packages)
        self.methods = said["METHODS"]
        self.short_methods = said.get("SHORT_METHODS", self.methods)
        self.rounds = said.get("ROUNDS", ROUNDS)
        self.what = said.get("WHAT", "")


class NotInstalled(Exception):
    pass


def environment(path, packages):
    """A virtual environment with the package as pip would put it there, and what else is needed."""
    python = f"{path}/bin/python"
    if not os.path.exists(python):
        made = subprocess.run([sys.executable, "-m", "venv", path], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if made.returncode != 0:
            raise NotInstalled(made.stdout.strip().partition("\n")[0])
    site = subprocess.run([python, "-c", "import site; print(site.getsitepackages()[0])"],
                          check=True, text=True, stdout=subprocess.PIPE).stdout.strip()
    link = f"{site}/cleanfork"
    if not os.path.lexists(link) or os.readlink(link) != f"{given.package}/cleanfork":
        if os.path.lexists(link):
            os.unlink(link)
        os.symlink(f"{given.package}/cleanfork", link)
    page.write_if_other(f"{site}/cleanfork-0.dist-info/METADATA",
                        "Metadata-Version: 2.1\nName: cleanfork\nVersion: 0\n")
    page.write_if_other(f"{site}/cleanfork-0.dist-info/entry_points.txt", page.entry_points())
    page.write_if_other(f"{site}/cleanfork-0.dist-info/RECORD", "".join(
        f"cleanfork/{name},,\n" for name in sorted(os.listdir(f"{given.package}/cleanfork"))))
    if packages:
        done = subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--prefer-binary", "--retries", "0",
             "--timeout", "15", "--disable-pip-version-check",
             *(["--only-binary", ":all:"] if given.short else []), *packages],
            text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise NotInstalled((lines or done.stderr.splitlines() or ["no word"])[-1])
    return python


def versions(python, row):
    names = [each.partition("==")[0] for each in row.packages]
    code = ("import platform, sys, importlib.metadata as m\n"
            "print(', '.join(f'{n} {m.version(n)}' for n in sys.argv[1:])"
            " or 'Python ' + platform.python_version())")
    return subprocess.run([python, "-c", code, *names], check=True, text=True,
                          stdout=subprocess.PIPE).stdout.strip()


def run_once(python, row, method):
    command = [python, row.path, method, *(["--short"] if given.short else [])]
    env = {"PATH": os.pathsep.join([os.path.dirname(python), os.environ["PATH"]]),
           "PYTHONDONTWRITEBYTECODE": ""}
    return measure.run(command, TIMEOUT * (1 if given.short else 3), env)


def run_row(python, row):
    """The medians of what each method told; raises Failed."""
    methods = row.short_methods if given.short else row.methods
    told = {method: [] for method in methods}
    for number in range(1 if given.short else row.rounds):
        for method in methods:
            one = run_once(python, row, method)
            told[method].append(one)
            print(f"{row.name} {number + 1} {method}: start {one['start']:.3f} s, memory "
                  f"{one['memory'] / 2**20:.0f} MiB of {one['processes']} processes, "
                  f"{one['seconds']:.1f} s in all", flush=True)
    results = {method: [one["result"] for one in all_of] for method, all_of in told.items()}
    first = results[methods[0]][0]
    for method, each in results.items():
        if any(one != first for one in each):
            raise measure.Failed(f"{method} gave {each}, and {methods[0]} gave {first}")
    return {method: {key: statistics.median(one[key] for one in all_of)
                     if isinstance(all_of[0][key], (int, float)) else all_of[0][key]
                     for key in all_of[0] if key != "result"}
            for method, all_of in told.items()}


def run_all(rows):
    failed, skipped = [], []
    for row in rows:
        begun = time.monotonic()
        where = f"{given.venvs}/{'short' if given.short else row.name}"
        packages = row.short_packages if given.short else row.packages
        try:
            if given.short and skipped and packages:
                raise NotInstalled("as those of " + skipped[0])  # it took its time
            python = environment(where, packages)
            told = run_row(python, row)
        except NotInstalled as e:
            print(f"ecosystem: {row.name} is skipped: its packages cannot be installed: {e}")
            skipped.append(row.name)
            continue
        except measure.Failed as e:
            print(f"ecosystem: {row.name} failed: {e}", flush=True)
            failed.append(row.name)
            continue
        print(f"ecosystem: {row.name}: as it should be, {time.monotonic() - begun:.0f} s")
        if not given.short:
            page.write(NAMES, row, versions(python, row), told)
    return failed, skipped


parser = argparse.ArgumentParser()
parser.add_argument("--package", required=True, help="the directory that has the Python package")
parser.add_argument("--venvs", required=True)
parser.add_argument("--short", action="store_true")
parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
given = parser.parse_args()


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what runs is ended
    for name in set(given.names) - set(NAMES):
        parser.error(f"{name} is none of {', '.join(NAMES)}")
    given.package, given.venvs = os.path.abspath(given.package), os.path.abspath(given.venvs)
    rows = [Row(name) for name in given.names or (SHORT if given.short else NAMES)]
    failed, skipped = run_all(rows)
    if failed:
        sys.exit(f"ecosystem: not as it should be: {', '.join(failed)}")
    if len(skipped) == len(rows):
        sys.exit(SKIPPED)


if __name__ == "__main__":
    main()
