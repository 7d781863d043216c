"""./dev matrix [--full | --quick] [NAME...]: the Python package on each interpreter that is here.

Builds it for each, runs its tests and, with --full, CPython's own of that version, and writes
the table of docs/platforms.md. NAME: debian; the beginning of a version that pyenv has or
./dev interpreters made (3.13t is free-threaded); the path of an interpreter; or a directory with
NAME/bin/python in it. With --quick a few files of tests, of the newest interpreter that is not
Debian's unless others are named, and no row. Exits with 1 when a test fails.
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
sys.path.insert(0, f"{ROOT}/tests/helpers")
import platforms_page
from quietly import give_up, quietly

PROGRAMS = f"{ROOT}/build/dev/bin"
COLUMNS = ["Python", "own tests", "skipped, and why", "CPython's tests of multiprocessing",
           "of ProcessPoolExecutor", "of subprocess", "when, kernel"]
LEFT_OUT_HEADING = "Left out of CPython's tests, and why:"
# A file of tests/python/conformance, and what it needs.
SUITES = {"run": "test._test_multiprocessing", "futures": "test.test_concurrent_futures",
          "subprocesses": "test.test_subprocess"}
OLDEST = (3, 10)
MADE = os.environ.get("CLEANFORK_INTERPRETERS", f"{ROOT}/build/interpreters")
ABOUT = ("import sys, sysconfig; print(*sys.version_info[:3], "
         "'free-threaded' if sysconfig.get_config_var('Py_GIL_DISABLED') else '')")
LIMIT = 600  # seconds for a file, which leftovers.py scales
# CPython's tests run with --full; a wheel is made by `pip wheel`, whatever the interpreter is.
LEFT_OUT = {"test_conformance", "test_wheel"}
# What differs most from one version to the next.
QUICK = ["test_asyncio", "test_compat", "test_multiprocessing", "test_start_limits",
         "test_subprocess_popen", "test_threads"]


def about(python):
    """([3, 13, 5], "free-threaded" or ""); ([], "") of what does not run."""
    p = subprocess.run([python, "-c", ABOUT], capture_output=True, text=True)
    words = p.stdout.split() if p.returncode == 0 else []
    return [int(word) for word in words[:3]], " ".join(words[3:])


def version_of(name, python):
    numbers, threading = about(python)
    return " ".join([".".join(map(str, numbers)), threading,
                     "of Debian" if name == "debian" else ""]).strip().replace("  ", " ")


def below(directory):
    return {path.split("/")[-3]: path for path in glob.glob(f"{directory}/*/bin/python")}


def all_here(given):
    """{name: path}, and {name: what about() says}, also of those that are too old."""
    pyenv = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
    found = {"debian": "/usr/bin/python3", **below(f"{pyenv}/versions"), **below(MADE)}
    for each in (os.path.abspath(each) for each in given if "/" in each):
        if each not in found.values():
            found.update(below(each) if os.path.isdir(each) else {each: each})
    return found, {name: about(path) for name, path in found.items()}


def interpreters(given):
    """{name: path} of those that are new enough, the oldest first; of `given` if it is a path."""
    found, known = all_here(given)
    return {name: found[name] for name in sorted(known, key=lambda name: (known[name], name))
            if tuple(known[name][0]) >= OLDEST}


def chosen_of(here, given):
    """Those of `here` that the names and paths mean; all for none."""
    chosen = {}
    for each in given or [""]:
        path = f"{os.path.abspath(each)}/" if "/" in each else None
        meant = {name: python for name, python in here.items()
                 if (f"{python}/".startswith(path) if path else name.startswith(each))}
        if not meant:
            give_up(f"there is no {each} here, but {', '.join(here)}")
        chosen.update(meant)
    return chosen


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
    # ccache leaves a directory there, and leftovers.py looks for what is left behind.
    environment = {name: value for name, value in os.environ.items() if name != "XDG_RUNTIME_DIR"}
    quietly("cmake", "-S", ROOT, "-B", where, "-G", "Ninja", *options, env=environment)
    quietly("cmake", "--build", where, "--parallel", str(os.cpu_count()), "--target",
            "python_package", "cleanforkd", env=environment)
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
    """What CPython's own tests of that version say, whether all is well, and what is left out."""
    there = subprocess.run([python, "-c", f"import importlib.util as u, sys;"
                            f"sys.exit(not u.find_spec({SUITES[suite]!r}))"],
                           stderr=subprocess.DEVNULL)
    if there.returncode != 0:
        return "not installed", True, []
    p = subprocess.run([python, f"{ROOT}/tests/python/conformance/{suite}.py"],
                       env={**os.environ, "PYTHONPATH": f"{where}/python"}, text=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       errors="replace")
    with open(f"{where}/{suite}.log", "w") as log:
        log.write(p.stdout)
    # Of the stock method there is a run to compare with, which says nothing of us.
    counts = [int(count) for count in re.findall(r"^(?!stock:).*?(\d+) tests", p.stdout, re.M)]
    good = p.returncode == 0
    left_out = re.findall(r"^  left out: (.*)$", p.stdout, re.M)
    count = f", {len(left_out)} left out" if left_out else ""
    return (f"{sum(counts)} {'ran' if good else f'ran, FAILED, {suite}.log'}{count}, "
            f"{time.strftime('%Y-%m-%d')}", good, left_out)


def all_modules():
    return sorted({os.path.basename(path)[:-3] for path in
                   glob.glob(f"{ROOT}/tests/python/test_*.py")} - LEFT_OUT)


def judge(name, python, given):
    """The row of the table, what of CPython's tests is left out, and whether all is well."""
    of = version_of(name, python)
    print(f"{name}: Python {of}", flush=True)
    where = build(re.sub(r"[^\w.]+", "-", name), python)
    modules = QUICK if given.quick else all_modules()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda module: run_file(where, python, module), modules))
    ran, failed = (sum(result[i] for result in results) for i in (0, 1))
    reasons = collections.Counter(reason for result in results for reason in result[2])
    skips = "; ".join(f"{count}: {reason}" for reason, count in sorted(reasons.items()))
    suites = [run_conformance(where, python, suite) if given.full else (None, True, [])
              for suite in SUITES]  # those of an older run stay
    tests = f"{ran} ran, {failed or 'none'} failed"
    print(f"  {tests}; {skips or 'none skipped'} "
          f"{'; '.join(text or '' for text, *_ in suites)}", flush=True)
    cells = [of, tests, skips or "none", *(text for text, *_ in suites),
             f"{time.strftime('%Y-%m-%d')}, {os.uname().release.partition('-')[0]}"]
    return (cells, [each for *_, left_out in suites for each in left_out],
            failed == 0 and ran > 0 and all(well for _, well, _ in suites))


def main():
    parser = argparse.ArgumentParser(prog="./dev matrix")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--full", action="store_true", help="CPython's own tests too")
    kind.add_argument("--quick", action="store_true", help="a few tests, and no row")
    parser.add_argument("names", nargs="*", metavar="NAME", help="debian, 3.12, a path, ...; all")
    given = parser.parse_args()
    here = interpreters(given.names)
    if given.quick and not given.names:
        given.names = [name for name in here if name != "debian"][-1:]
        if not given.names:
            print("matrix: no interpreter is here but Debian's")
            return 0
    good = True
    for name, path in chosen_of(here, given.names).items():
        row, left_out, well = judge(name, path, given)
        good = good and well
        if not given.quick:
            # At once: hours of work must not be lost with an interpreter that comes later.
            platforms_page.update("matrix", COLUMNS, [row], heading=LEFT_OUT_HEADING,
                                  points=left_out)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
