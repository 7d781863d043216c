"""./dev root [--fresh] NAME [COMMAND...]: a release of Debian in a directory, as a newcomer has it.

Makes the root with debootstrap the first time, puts a clean clone of what is committed here into
it, and runs COMMAND there. Without one: ./dev demo and ./dev test, and writes their results into
the table of docs/platforms.md. Exits with 1 when one of them fails. Roots are kept in
/var/tmp/cleanfork-roots, or what CLEANFORK_ROOTS names.
"""

import argparse
import collections
import os
import re
import shlex
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TREE = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, f"{TREE}/tests/helpers")
import platforms_page

COLUMNS = ["where", "compiler", "Boost", "protobuf", "gRPC", "Python", "`./dev demo`", "`./dev test`",
           "tests skipped, and why", "when, kernel"]
SUITES = {"debian-12": "bookworm", "debian-13": "trixie", "debian-sid": "sid",
          "debian-experimental": "sid"}
# What is not in sid yet: protobuf with abseil, and the gRPC that goes with it.
EXPERIMENTAL = ("libprotobuf-dev", "protobuf-compiler", "libgrpc++-dev", "protobuf-compiler-grpc")
ROOTS = os.environ.get("CLEANFORK_ROOTS", "/var/tmp/cleanfork-roots")
PASSED_ON = ("CLEANFORK_TEST_SLOWNESS",)  # of a machine that others use, too
# What differs from the release's own compiler: the packages, and the environment of ./dev. The
# sources of a folder are compiled as one, which is several times quicker.
UNITY = "-DCMAKE_UNITY_BUILD=ON"
VARIANTS = {
    "": ([], {}),
    "unity": ([], {"CMAKE_ARGS": UNITY}),
    "c++23": ([], {"CMAKE_ARGS": f"{UNITY} -DCMAKE_CXX_STANDARD=23"}),
    "clang": (["clang"], {"CXX": "clang++", "CMAKE_ARGS": UNITY}),
    "clang-c++23": (["clang"], {"CXX": "clang++",
                                "CMAKE_ARGS": f"{UNITY} -DCMAKE_CXX_STANDARD=23"}),
}
VERSIONS = r"""
echo compiler=$(${CXX:-g++} --version | head -n 1)
echo boost=$(sed -n 's/^#define BOOST_LIB_VERSION "\(.*\)"/\1/p' /usr/include/boost/version.hpp)
echo protobuf=$(protoc --version)
echo grpc=$(pkg-config --modversion grpc++)
echo python=$(/usr/bin/python3 -c 'import platform; print(platform.python_version())')
"""


def mirror():
    """Where this machine has its own packages from: the archive of its release."""
    told = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)",
         "Created-By: Packages"], check=True, capture_output=True, text=True).stdout
    for line in told.splitlines():
        uri, _, codename = line.partition(" ")
        if codename and "-" not in codename:  # neither security nor updates
            return uri.rstrip("/")
    raise SystemExit("apt has no archive of Debian")


class Root:
    def __init__(self, name, variant):
        self.suite = SUITES[name]
        self.experimental = name == "debian-experimental"
        self.path = f"{ROOTS}/{'experimental' if self.experimental else self.suite}"
        self.packages, self.environment = VARIANTS[variant]
        self.tree = f"/srv/cleanfork{variant and '-'}{variant}"  # seen from inside, by any user

    def make(self, fresh):
        if fresh and os.path.exists(self.path):
            shutil.rmtree(self.path)  # nothing is mounted there: see run()
        if not os.path.exists(f"{self.path}/root/.made"):
            shutil.rmtree(self.path, ignore_errors=True)
            os.makedirs(self.path)
            print(f"root: debootstrap of {self.suite}, minutes", flush=True)
            outside("debootstrap", "--include=ca-certificates", self.suite, self.path,
                    mirror())
            with open(f"{self.path}/etc/hosts", "w") as hosts:
                hosts.write("127.0.0.1 localhost\n::1 localhost\n")
            with open(f"{self.path}/root/.made", "w"):
                pass
        shutil.copy("/etc/resolv.conf", f"{self.path}/etc/resolv.conf")
        # A mirror, or a clock, that this machine must be told to bear with, so must the root.
        with open(f"{self.path}/etc/apt/apt.conf.d/90dates", "w") as conf:
            conf.write(outside("apt-config", "dump", "Acquire::Check-Valid-Until")
                       + outside("apt-config", "dump", "Acquire::Check-Date"))
        # It need not survive a loss of power.
        with open(f"{self.path}/etc/dpkg/dpkg.cfg.d/quick", "w") as conf:
            conf.write("force-unsafe-io\n")
        experimental = f"{self.path}/etc/apt/sources.list.d/experimental.list"
        if self.experimental and not os.path.exists(experimental):
            with open(experimental, "w") as sources:
                sources.write(f"deb {mirror()} experimental main\n")
            self.must_run("apt-get", "-qq", "update")
            self.must_run("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-y", "install",
                          "--no-install-recommends", "--target-release=experimental", *EXPERIMENTAL)
        # A newcomer has git, or there would be no clone. ccache makes further runs bearable.
        self.install("git", "ccache", *self.packages)

    def install(self, *wanted):
        if self.run("dpkg-query", "-W", *wanted, stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL).returncode != 0:
            self.must_run("apt-get", "-qq", "update")
            self.must_run("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-y",
                          "--no-install-recommends", "install", *wanted)

    def clone(self):
        """What is committed here, without anything that was built here."""
        where = self.path + self.tree
        if not os.path.exists(where):
            outside("git", "clone", "--quiet", TREE, where)
        outside("git", "-C", where, "fetch", "--quiet", TREE, "HEAD")
        outside("git", "-C", where, "reset", "--quiet", "--hard", "FETCH_HEAD")
        if outside("git", "-C", TREE, "status", "--porcelain"):
            print("root: what is not committed here is not in the clone", flush=True)

    def run(self, *command, **options):
        """In namespaces of its own, which leave neither a mount nor a process behind."""
        cache = f"{ROOTS}/ccache"
        os.makedirs(cache, exist_ok=True)
        inside = {"HOME": "/root", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                  **self.environment}
        inside.update((name, os.environ[name]) for name in PASSED_ON if name in os.environ)
        # The root of the namespace, not chroot(2): a process there could neither make a user
        # namespace nor change how mounts spread. The shell stays: the first process is no test.
        script = ('set -e; root=$1 cache=$2; shift 2; mount --rbind "$root" "$root"; cd "$root";'
                  'mount --rbind /dev dev; mount -t tmpfs -o mode=1777 tmpfs dev/shm;'
                  'mount --rbind /sys sys; mkdir -p root/.cache/ccache;'
                  'mount --bind "$cache" root/.cache/ccache;'
                  'pivot_root . .; umount --lazy .; cd /; "$@"')
        return subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child",
             f"--mount-proc={self.path}/proc", "sh", "-c", script, "sh", self.path, cache,
             "env", "-i", "-C", "/root", *(f"{k}={v}" for k, v in inside.items()), *command],
            stdin=subprocess.DEVNULL, **options)

    def must_run(self, *command):
        p = self.run(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if p.returncode != 0:
            sys.exit(f"root: {shlex.join(command)} failed in {self.path}\n{p.stdout}")
        return p.stdout

    def dev(self, *arguments):
        """A subcommand of ./dev in the clone: whether all went well, and what it said."""
        print(f"root: {self.suite}: ./dev {' '.join(arguments)}", flush=True)
        log = f"{self.path}{self.tree}/{arguments[0]}.log"
        with open(log, "w") as file:
            p = self.run("env", "-C", self.tree, "./dev", *arguments, stdout=file,
                         stderr=subprocess.STDOUT)
        with open(log, errors="replace") as file:
            said = file.read()
        if p.returncode != 0:
            print(f"root: ./dev {arguments[0]} failed: {log}", flush=True)
        return p.returncode == 0, said


def outside(*command):
    p = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                       stdin=subprocess.DEVNULL)
    if p.returncode != 0:
        sys.exit(f"root: {shlex.join(command)} failed\n{p.stdout}")
    return p.stdout


def skips(root):
    """What the Python tests say of those that were left out."""
    with open(f"{root.path}{root.tree}/build/dev/Testing/Temporary/LastTest.log",
              errors="replace") as file:
        reasons = collections.Counter(re.findall(r"skipped ['\"](.*)['\"]$", file.read(), re.M))
    return "; ".join(f"{count}: {reason}" for reason, count in sorted(reasons.items())) or "none"


def counts(log):
    """(passed, failed, left behind) as ./dev test says in its last line."""
    said = re.search(r"^dev: (\d+) passed, (\d+) failed, (\d+) left behind$", log, re.M)
    return tuple(map(int, said.groups())) if said else None


def judge(root, name, variant):
    """The row of the table, and whether all is well."""
    demo, _ = root.dev("demo")
    tests, log = root.dev("test")
    found = dict(line.split("=", 1) for line in
                 root.must_run("sh", "-c", VERSIONS).splitlines() if "=" in line)
    number = counts(log)
    result = ("did not run" if number is None else
              f"{number[0]} passed, {number[1] or 'none'} failed")
    for line in re.findall(r"^\s+\d+ - .*\((?:Failed|Timeout|SEGFAULT)\)$", log, re.M):
        print(f"  {line.strip()}", flush=True)
    release = name.replace("debian-", "Debian ")
    cells = [f"{release}{variant and ', '}{variant}", compiler(found["compiler"]),
             found["boost"].replace("_", "."), found["protobuf"].replace("libprotoc ", ""),
             found["grpc"], found["python"], "passed" if demo else "FAILED", result,
             skips(root) if number else "",
             f"{time.strftime('%Y-%m-%d')}, {os.uname().release.partition('-')[0]}"]
    print(f"  {' | '.join(cells)}", flush=True)
    return cells, demo and tests


def compiler(line):
    name = "clang" if "clang" in line else "g++"
    return f"{name} {re.search(r'[0-9]+[.][0-9]+[.][0-9]+', line)[0]}"


def main():
    parser = argparse.ArgumentParser(prog="./dev root")
    parser.add_argument("--fresh", action="store_true", help="make the root anew")
    parser.add_argument("--variant", choices=VARIANTS, default="", help="another compiler, C++23")
    parser.add_argument("name", choices=SUITES)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("root: needs root, for mounts: sudo ./dev root ...")
    root = Root(given.name, given.variant)
    root.make(given.fresh)
    root.clone()
    if given.command:
        return root.run("env", "-C", root.tree, *given.command).returncode
    row, good = judge(root, given.name, given.variant)
    platforms_page.update("root", COLUMNS, [row])
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
