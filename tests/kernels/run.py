"""./dev kernels [--profiles] [--only WORD]... [NAME...]: the tests on other kernels.

Boots kernels that Debian has, in machines of qemu without any help of the processor, and runs
programs.py there; with --profiles runs the same here, under each filter of profiles.py. Writes
what it saw into docs/platforms.md. NAME: 5.10, 6.1, 6.12, newest, or a profile; all. Exits with 1
when a test fails.
"""

import argparse
import os
import re
import subprocess
import sys
import time

import machine
import programs
from profiles import FEATURES, PROFILES, environment_under, under

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, f"{ROOT}/tests/helpers")
import platforms_page

BUILD = f"{ROOT}/build/dev"
HOME = f"{ROOT}/build/kernels"
COLUMNS = ["kernel or profile", "features that are missing there", "test cases",
           "a tree is found by", "forkserver lost", "when"]


class Judge:
    """Collects what the programs of one kernel or profile say, and makes a row of it."""

    def __init__(self, name):
        self.name, self.of = name, name
        self.results = []

    def told(self, record):
        if record[0] == "kernel":
            self.of = record[1]
            print(f"{self.name}: Linux {self.of}", flush=True)
        elif len(record) == len(programs.Result._fields):
            self.add(programs.Result(*record))

    def add(self, result):
        self.results.append(result)
        state = "failed" if result.failed else "passed"
        print(f"  {result.name}: {result.ran} {state}, {result.seconds} s", flush=True)
        if result.failed:
            with open(f"{HOME}/{self.name}.{result.name.replace('/', '.')}.log", "w") as log:
                log.write(result.output)

    def said(self, word):
        found = re.search(rf"\b{word}: ?(.*)$", "\n".join(r.output for r in self.results), re.M)
        return found[1].strip() if found else "?"

    def row(self):
        total = {field: sum(getattr(r, field) for r in self.results)
                 for field in ("ran", "failed", "skipped")}
        there = self.said("features").split()
        missing = ", ".join(f for f in FEATURES if f not in there) or "none"
        failed = [r.name for r in self.results if r.failed]
        what = self.results[0].name if len(self.results) == 1 else f"{len(self.results)} programs"
        cases = f"{total['ran']} of {what}, {total['failed'] or 'none'} failed"
        if failed:
            cases += f" ({', '.join(failed)})"
        if total["skipped"]:
            cases += f", {total['skipped']} skipped"
        here = "" if self.of != self.name else f", here on {os.uname().release.partition('-')[0]}"
        cells = [self.name if here else f"Linux {self.of}", missing, cases, self.said("tree"),
                 self.said("lost"), time.strftime("%Y-%m-%d") + here]
        return cells

    def good(self):
        return bool(self.results) and not any(r.failed for r in self.results)


def boot(names, wanted):
    root = machine.Root(f"{HOME}/root")
    root.add_system()
    root.add_tree(ROOT, BUILD)
    archive = root.pack(wanted)
    for name in names:
        suites = machine.SUITES[name]
        vmlinuz = machine.kernel(f"{HOME}/{name}", suites)
        judge = Judge(name)
        if not machine.boot(vmlinuz, archive, f"{HOME}/{name}.log", judge.told):
            print(f"{name}: the guest did not come to its end: {HOME}/{name}.log", flush=True)
            judge.results.append(programs.Result("the guest", 0, 1, 0, 0, ""))
        yield judge


def filtered(names, wanted):
    bins = f"{BUILD}/bin"
    os.environ.update(CLEANFORK_BIN=bins, CLEANFORK_DAEMON=f"{bins}/cleanforkd",
                      CLEANFORK_TEST_HELPERS=f"{bins}/test-helpers",
                      PYTHONPATH=f"{BUILD}/python", PYTHONDONTWRITEBYTECODE="1")
    for name in names:
        profile = PROFILES[name]
        print(f"{name}: {profile.about}", flush=True)
        judge = Judge(name)
        for program in programs.programs(ROOT):
            if not wanted or any(word in program.name for word in wanted):
                argv = under(profile, f"{bins}/test-helpers", program.argv)
                judge.add(programs.run(ROOT, program._replace(argv=argv),
                                       environment_under(profile)))
        yield judge


def order(first):
    return not first.startswith("Linux"), platforms_page.by_version(first)


def main():
    parser = argparse.ArgumentParser(prog="./dev kernels")
    parser.add_argument("--profiles", action="store_true", help="filters here, and no machines")
    parser.add_argument("--only", action="append", default=[], metavar="WORD",
                        help="only programs whose name has it")
    parser.add_argument("names", nargs="*", metavar="NAME")
    given = parser.parse_args()
    known = [name for name, profile in PROFILES.items() if not profile.refuses] \
        if given.profiles else list(machine.SUITES)
    for name in given.names:
        if name not in known:
            sys.exit(f"kernels: there is no {name}, but {', '.join(known)}")
    os.makedirs(HOME, exist_ok=True)
    good = True
    for judge in (filtered if given.profiles else boot)(given.names or known, given.only):
        if not judge.results:
            sys.exit(f"kernels: no program was run: none has {' or '.join(given.only)} in its name")
        print(" | ".join(judge.row()), flush=True)
        platforms_page.update("kernels", COLUMNS, [judge.row()], order)
        good = good and judge.good()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
