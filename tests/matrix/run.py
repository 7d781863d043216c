"""./dev matrix [--full] [NAME...]: the Python package on each interpreter that is here.

Builds it for each, runs its tests and, with --full, CPython's own of that version, and writes
the table of docs/platforms.md. NAME: debian, or the beginning of a version that pyenv has. Exits
with 1 when a test fails.
"""

import argparse
import collections
import concurrent.futures
import glob
import os
import re
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PROGRAMS = f"{ROOT}/build/dev/bin"
PAGE = f"{ROOT}/docs/platforms.md"
BEGIN, END = "<!-- ./dev matrix: begin -->", "<!-- ./dev matrix: end -->"
HEAD = ("| Python | own tests | skipped, and why | CPython's tests of multiprocessing | of subprocess "
        "| when, kernel |\n|---|---|---|---|---|---|\n")
OLDEST = (3, 10)
LIMIT = 600  # seconds for a file, which leftovers.py scales
# CPython's tests run with --full; a wheel is made by `pip wheel`, whatever the interpreter is.
LEFT_OUT = {"test_conformance", "test_wheel"}


def interpreters():
    """{name: path} of those that are new enough, the oldest first."""
    found = {"debian": "/usr/bin/python3"}
    pyenv = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
    for path in glob.glob(f"{pyenv}/versions/3.*/bin/python"):
        found[path.split("/")[-3]] = path
    versions = {}
    for name, path in found.items():
        p = subprocess.run([path, "-c", "import sys; print(*sys.version_info[:3])"],
                           capture_output=True, text=True)
        version = tuple(map(int, p.stdout.split()))
        if p.returncode == 0 and version >= OLDEST:
            versions[name] = version
    return {name: found[name] for name in sorted(versions, key=versions.get)}


def quietly(*command, **options):
    p = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                       stdin=subprocess.DEVNULL, **options)
    if p.returncode != 0:
        sys.exit(f"matrix: {' '.join(command)} failed\n{p.stdout}")
    return p.stdout


def newest_pybind11():
    """Debian 12's is too old for Python 3.12 and later: one of PyPI, in build/matrix-tools."""
    tools = f"{ROOT}/build/matrix-tools"
    if not os.path.exists(f"{tools}/bin/pybind11-config"):
        quietly("/usr/bin/python3", "-m", "venv", tools)
        quietly(f"{tools}/bin/pip", "install", "--quiet", "pybind11>=2.13")
    return quietly(f"{tools}/bin/pybind11-config", "--cmakedir").strip()


def build(name, python):
    """The directory of a build for that interpreter."""
    where = f"{ROOT}/build/matrix-{name}"
    options = ["-DCMAKE_BUILD_TYPE=RelWithDebInfo",
               f"-DCMAKE_CXX_COMPILER_LAUNCHER={shutil.which('ccache') or ''}",
               "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 -g1 -D_GLIBCXX_ASSERTIONS",
               "-DCLEANFORK_WERROR=ON", "-DCLEANFORK_TESTS=OFF", "-DCLEANFORK_BENCH=OFF",
               "-DCLEANFORK_EXAMPLES=OFF", f"-DPython3_EXECUTABLE={python}"]
    if name != "debian":
        options.append(f"-Dpybind11_DIR={os.environ.get('PYBIND11_DIR') or newest_pybind11()}")
    quietly("cmake", "-S", ROOT, "-B", where, "-G", "Ninja", *options)
    quietly("cmake", "--build", where, "--parallel", str(os.cpu_count()), "--target",
            "python_package", "cleanforkd")
    return where


def run_file(where, python, module):
    """(how many ran, how many failed, [reason of each skip]) of a file of tests."""
    environment = {**os.environ, "PYTHONPATH": f"{where}/python", "PYTHONDONTWRITEBYTECODE": "1",
                   "CLEANFORK_BIN": PROGRAMS, "CLEANFORK_DAEMON": f"{where}/bin/cleanforkd",
                   "CLEANFORK_TEST": f"matrix.{module}",
                   "CLEANFORK_TEST_HELPERS": f"{PROGRAMS}/test-helpers"}
    p = subprocess.run(["/usr/bin/python3", f"{ROOT}/tests/helpers/leftovers.py", "--limit",
                        str(LIMIT), python, "-m", "unittest", "-v", module],
                       cwd=f"{ROOT}/tests/python", env=environment, stdin=subprocess.DEVNULL,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                       errors="replace")
    with open(f"{where}/{module}.log", "w") as log:
        log.write(p.stdout)
    ran = re.search(r"^Ran (\d+) tests? in", p.stdout, re.M)
    told = dict(re.findall(r"(failures|errors|unexpected successes)=(\d+)", p.stdout))
    failed = sum(map(int, told.values()))
    # From 3.12 on the status tells a file of which all is skipped.
    if p.returncode != 0 and failed == 0 and "NO TESTS RAN (skipped=" not in p.stdout:
        failed = 1  # it hung, left something behind, or could not be imported
    if failed:
        print(f"  {module} failed: {where}/{module}.log", flush=True)
    return (int(ran[1]) if ran else 0, failed,
            re.findall(r"skipped ['\"](.*)['\"]$", p.stdout, re.M))


def run_conformance(where, python, suite):
    """What CPython's own tests of that version say; None when they are not installed."""
    wanted = {"run": "test._test_multiprocessing", "subprocesses": "test.test_subprocess"}[suite]
    there = subprocess.run([python, "-c", f"import importlib.util as u, sys;"
                            f"sys.exit(not u.find_spec({wanted!r}))"], stderr=subprocess.DEVNULL)
    if there.returncode != 0:
        return "not installed", True
    p = subprocess.run([python, f"{ROOT}/tests/python/conformance/{suite}.py"],
                       env={**os.environ, "PYTHONPATH": f"{where}/python"}, text=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       errors="replace")
    with open(f"{where}/{suite}.log", "w") as log:
        log.write(p.stdout)
    counts = [int(count) for count in re.findall(r"(\d+) tests", p.stdout)]
    good = p.returncode == 0
    return f"{sum(counts)} {'passed' if good else f'ran, FAILED, {suite}.log'}", good


def judge(name, python, full):
    """The row of the table, and whether all is well."""
    version = quietly(python, "-c", "import platform; print(platform.python_version())").strip()
    print(f"{name}: Python {version}", flush=True)
    where = build(name, python)
    modules = sorted({os.path.basename(path)[:-3] for path in
                      glob.glob(f"{ROOT}/tests/python/test_*.py")} - LEFT_OUT)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda module: run_file(where, python, module), modules))
    ran, failed = (sum(result[i] for result in results) for i in (0, 1))
    reasons = collections.Counter(reason for result in results for reason in result[2])
    skips = "; ".join(f"{count}: {reason}" for reason, count in sorted(reasons.items()))
    suites = [run_conformance(where, python, suite) if full else ("", True)
              for suite in ("run", "subprocesses")]
    tests = f"{ran} ran, {failed or 'none'} failed"
    print(f"  {tests}; {skips or 'none skipped'} {' '.join(text for text, _ in suites)}",
          flush=True)
    of = f"{version} of Debian" if name == "debian" else version
    cells = [of, tests, skips or "none", *(text for text, _ in suites),
             f"{time.strftime('%Y-%m-%d')}, {os.uname().release.partition('-')[0]}"]
    return f"| {' | '.join(cells)} |", failed == 0 and ran > 0 and all(well for _, well in suites)


def write(rows):
    """Into the page; what this run has not looked at stays."""
    with open(PAGE) as file:
        before, _, rest = file.read().partition(BEGIN)
    table, _, after = rest.partition(END)
    kept = {line.split("|")[1].strip(): line for line in table.splitlines()[3:] if "|" in line}
    kept.update({row.split("|")[1].strip(): row for row in rows})
    lines = sorted(kept, key=lambda of: [int(part) for part in re.findall(r"\d+", of)])
    with open(PAGE, "w") as file:
        file.write(before + f"{BEGIN}\n{HEAD}" + "".join(f"{kept[of]}\n" for of in lines)
                   + END + after)


def main():
    parser = argparse.ArgumentParser(prog="./dev matrix")
    parser.add_argument("--full", action="store_true", help="CPython's own tests too")
    parser.add_argument("names", nargs="*", metavar="NAME", help="debian, 3.12, ...; all")
    given = parser.parse_args()
    here = interpreters()
    chosen = {name: path for name, path in here.items()
              if not given.names or any(name.startswith(each) for each in given.names)}
    for each in given.names:
        if not any(name.startswith(each) for name in chosen):
            sys.exit(f"matrix: there is no {each} here, but {', '.join(here)}")
    judged = [judge(name, path, given.full) for name, path in chosen.items()]
    write([row for row, _ in judged])
    return 0 if all(good for _, good in judged) else 1


if __name__ == "__main__":
    sys.exit(main())
