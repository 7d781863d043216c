"""A machine of qemu with a kernel of Debian, and a root of its own in memory."""

import glob
import json
import os
import re
import shutil
import subprocess
import sys

from programs import MARK

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../helpers"))
from quietly import quietly

# What runs in the guest is of this system; only the kernel is another's.
PACKAGES = ("coreutils", "dash", "bash", "procps", "util-linux", "grep", "sed", "findutils",
            "hostname", "ncurses-bin", "passwd")
PYTHON_PARTS_LEFT_OUT = {"test", "idlelib", "lib2to3", "tkinter", "turtledemo", "ensurepip",
                         "distutils", "pydoc_data", "__pycache__", "config-3.11-x86_64-linux-gnu"}
MEMORY = "1G"
CPU = "max,la57=off"  # tables of five levels are slow to emulate
# The guest's clock counts its own instructions, 2 ns each: no limit in it depends on how fast or
# how busy this machine is.
CLOCK = "shift=1,sleep=off"
LIMIT = 3600  # seconds for a whole guest
# Where each is to be found, the newest of which is taken.
SUITES = {"5.10": ["bullseye"], "6.1": ["bookworm"], "6.12": ["trixie"],
          "newest": ["sid", "trixie-backports"]}


# ---- the kernel

def mirror():
    """Where this system's own packages come from."""
    told = quietly("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages",
                   "Label: Debian")
    if not told.strip():
        sys.exit("kernels: apt knows no Debian mirror, where kernels come from")
    return told.split()[0]


class Apt:
    """apt with suites of its own: nothing of the system's is changed."""

    def __init__(self, home, suites):
        os.makedirs(f"{home}/lists/partial", exist_ok=True)
        os.makedirs(f"{home}/cache/archives/partial", exist_ok=True)
        with open(f"{home}/sources.list", "w") as file:
            for suite in suites:
                file.write("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
                           f"{mirror()} {suite} main\n")
        self.home = home
        self.options = [f"-oDir::Etc::SourceList={home}/sources.list",
                        "-oDir::Etc::SourceParts=/nonexistent", f"-oDir::State::Lists={home}/lists",
                        f"-oDir::Cache={home}/cache", "-oAPT::Sandbox::User=root",
                        "-oAcquire::Check-Valid-Until=false", "-oAcquire::Languages=none"]
        quietly("apt-get", *self.options, "-qq", "update")

    def depends(self, package, version, pattern):
        """The package of that pattern that this one depends on, or None."""
        told = quietly("apt-cache", *self.options, "show", f"{package}={version}")
        depends = re.search(r"^Depends: (.*)", told, re.M)[1]
        found = re.search(rf"\b{pattern}[^ ,]+", depends)
        return found and found[0]

    def newest_image(self):
        """The directory of the newest kernel for clouds: small, and it needs no modules here."""
        offered = quietly("apt-cache", *self.options, "madison", "linux-image-cloud-amd64")
        version = offered.split("|")[1].strip()
        package = self.depends("linux-image-cloud-amd64", version, "linux-image-")
        # From 7.x on the kernel itself is in a package of its own.
        offered = quietly("apt-cache", *self.options, "madison", package)
        package = self.depends(package, offered.split("|")[1].strip(), "linux-binary-") or package
        root = f"{self.home}/{package}"
        if not os.path.exists(root):
            quietly("apt-get", *self.options, "download", package, cwd=self.home)
            quietly("dpkg-deb", "-x", glob.glob(f"{self.home}/{package}_*.deb")[0], root)
        return root


def kernel(home, suites):
    """The path of a kernel's vmlinuz."""
    root = Apt(home, suites).newest_image()
    return (glob.glob(f"{root}/boot/vmlinuz-*") + glob.glob(f"{root}/usr/lib/modules/*/vmlinuz"))[0]


# ---- what it runs

class Root:
    """A directory that becomes the guest's root."""

    def __init__(self, path):
        shutil.rmtree(path, ignore_errors=True)
        self.path = path
        for name in ("proc", "sys", "dev", "tmp", "run", "root", "usr/bin", "usr/sbin", "usr/lib",
                     "usr/lib64", "etc", "cleanfork", "var/tmp"):
            os.makedirs(f"{path}/{name}")
        for name in ("bin", "sbin", "lib", "lib64"):
            os.symlink(f"usr/{name}", f"{path}/{name}")
        for name in ("passwd", "group", "shells", "nsswitch.conf", "ld.so.cache"):
            shutil.copy(f"/etc/{name}", f"{path}/etc/{name}")

    def add(self, source, target=None, strip=False):
        """A file, a link or a directory; with the libraries that a program needs."""
        target = self.path + (target or source)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.isdir(source) and not os.path.islink(source):
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True,
                            ignore=lambda _, names: PYTHON_PARTS_LEFT_OUT & set(names))
        elif not os.path.lexists(target):
            shutil.copy2(source, target, follow_symlinks=False)
            if strip:
                quietly("strip", "--strip-debug", target)

    def add_programs(self, paths):
        """The libraries of these programs and modules."""
        for path in paths:
            p = subprocess.run(["ldd", path], capture_output=True, text=True)
            for library in re.findall(r"(/\S+) \(0x", p.stdout):
                self.add(os.path.realpath(library), library)

    def add_system(self):
        files = quietly("dpkg", "-L", *PACKAGES).split("\n")
        programs = [file for file in files
                    if re.match(r"(/usr)?/s?bin/.", file) and os.path.lexists(file)]
        for program in programs:
            self.add(program)
        self.add("/bin/sh")
        self.add("/usr/bin/busybox")
        self.add("/usr/bin/python3")
        python = os.path.realpath("/usr/bin/python3")
        self.add(python)
        self.add(f"/usr/lib/{os.path.basename(python)}")
        self.add("/usr/lib/locale/C.utf8")
        self.add_programs([*programs, python, *glob.glob(
            f"/usr/lib/{os.path.basename(python)}/lib-dynload/*.so")])

    def add_tree(self, tree, build):
        """The tests of the tree, and what was built of it."""
        for name in ("tests/kernels", "tests/helpers", "tests/cli", "tests/python",
                     "tests/integration"):
            self.add(f"{tree}/{name}", f"/cleanfork/{name}")
        binaries = [f"{build}/bin/{name}" for name in
                    ("cleanfork", "cleanforkd", "unit_tests", "unit_daemon_tests",
                     "integration_tests")]
        binaries += glob.glob(f"{build}/bin/test-helpers/*")
        for binary in binaries:
            self.add(binary, f"/cleanfork{binary[len(build):]}", strip=True)
        # The tests have this directory compiled in.
        os.makedirs(os.path.dirname(self.path + build), exist_ok=True)
        os.symlink("/cleanfork", self.path + build)
        self.add(f"{build}/python", "/cleanfork/python")
        self.add_programs([*binaries, *glob.glob(f"{build}/python/cleanfork/*.so")])

    def pack(self, wanted):
        """The path of the archive that the kernel unpacks."""
        with open(f"{self.path}/wanted", "w") as file:
            file.write(" ".join(wanted))
        shutil.copy2(f"{os.path.dirname(os.path.abspath(__file__))}/init", f"{self.path}/init")
        archive = f"{self.path}.cpio"
        with open(archive, "wb") as out:
            find = subprocess.Popen(["find", "."], cwd=self.path, stdout=subprocess.PIPE)
            subprocess.run(["cpio", "-o", "-H", "newc", "--quiet", "-R", "0:0"], cwd=self.path,
                           stdin=find.stdout, stdout=out, check=True)
            find.wait()
        return archive


# ---- the machine

def boot(vmlinuz, archive, log, told):
    """Runs a guest; `told` gets each line of it that is JSON. False when it did not end well."""
    ended = False
    with open(log, "w") as file, subprocess.Popen(
            ["timeout", str(LIMIT), "qemu-system-x86_64", "-accel", "tcg", "-cpu", CPU,
             "-icount", CLOCK, "-smp", "1", "-m", MEMORY, "-nographic", "-no-reboot", "-nodefaults",
             "-serial", "stdio",
             "-kernel", vmlinuz, "-initrd", archive,
             "-append", "console=ttyS0 quiet panic=-1 mitigations=off"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            errors="replace") as qemu:
        for line in qemu.stdout:
            file.write(line)
            file.flush()
            if MARK in line:
                try:
                    record = json.loads(line.partition(MARK)[2])
                except ValueError:
                    continue  # the kernel said something in the middle of it
                ended = ended or record == ["end"]
                told(record)
    return ended
