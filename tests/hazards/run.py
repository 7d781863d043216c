"""./dev hazards: what fork(2) breaks in programs with threads, and cleanfork does not.

    run.py [--quick] [--json] [-v] [--list] [CASE...]

Runs each case with plain fork and through cleanfork, and prints what was damaged. Ends
with 0 only when nothing was damaged through cleanfork, and every case ran to its end.
"""

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.join(HERE, "../helpers"))
from patience import scaled

PYTHON = "/usr/bin/python3"
DEFAULT_PROGRAM = os.path.join(HERE, "../../build/dev/bin/cleanfork_hazards")

GROUPS = {
    1: "buffered output",
    2: "state that is copied",
    3: "locks whose owner is gone",
    4: "shared descriptors",
    5: "connection pools",
    6: "gRPC",
    7: "fork in a process with a big heap",
    8: "process-wide oddities",
}
SILENCE = {"fork": scaled(10)}  # seconds without a verdict: the parent itself hangs
SILENCE_OTHERWISE = scaled(60)
LIMIT = {"quick": scaled(60), "full": scaled(120)}  # seconds for a case in one way
END = scaled(5)  # seconds for the end of a program that is done
RESTARTS = 50  # of a parent that hangs or crashes


class Case:
    def __init__(self, command, line):
        group, self.name, self.language, self.title, quick, full = line.split("\t")
        self.group, self.command = int(group), command
        self.tries = {"quick": int(quick), "full": int(full)}


def cases(program):
    commands = [[os.path.abspath(program)]]
    for name in sorted(os.listdir(HERE)):
        if name.startswith("py_") and name != "py_support.py":
            commands.append([PYTHON, os.path.join(HERE, name)])
    found = []
    for command in commands:
        listed = subprocess.run([*command, "--list"], check=True, capture_output=True, text=True)
        found += [Case(command, line) for line in listed.stdout.splitlines()]
    return sorted(found, key=lambda case: case.group)  # within a group C++ first


# ---- one case in one way


class Result:
    def __init__(self):
        self.runs, self.kinds, self.evidence = 0, {}, {}
        self.figures, self.complaint, self.seconds = {}, "", 0.0

    @property
    def damaged(self):
        return sum(self.kinds.values())

    def damage(self, kind, evidence):
        self.runs += 1
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        self.evidence.setdefault(kind, evidence)

    def take(self, line):
        """True when this line was the last."""
        word, _, rest = line.partition(" ")
        if word == "ok":
            self.runs += 1
        elif word == "damaged":
            self.damage(*rest.split(": ", 1))
        elif word == "figure":
            name, value = rest.split()
            self.figures.setdefault(name, []).append(float(value))
        return word == "done"

    def as_json(self):
        return {"runs": self.runs, "damaged": self.damaged, "kinds": self.kinds,
                "evidence": self.evidence, "figures": self.figures, "complaint": self.complaint,
                "seconds": round(self.seconds, 2)}


def lines_of(process, silence, deadline):
    """What is told until the program ends; None after `silence`, or at the deadline."""
    pidfd, pipe, rest = os.pidfd_open(process.pid), process.stdout.fileno(), b""
    try:
        while True:
            left = min(silence, deadline - time.monotonic())
            ready = select.select([pipe, pidfd], [], [], max(0, left))[0]
            if not ready:
                yield None
                return
            # Children that hang have the pipe too: there may be no end of it.
            block = os.read(pipe, 65536) if pipe in ready else b""
            if not block:
                return
            *lines, rest = (rest + block).split(b"\n")
            yield from (line.decode(errors="replace") for line in lines)
    finally:
        os.close(pidfd)


def end_group(process, bound):
    """Waits, and kills what is left of the process group, while its number is not another's."""
    pidfd = os.pidfd_open(process.pid)
    select.select([pidfd], [], [], bound)
    os.close(pidfd)
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    return process.wait()


def run_once(command, way, result, silence, deadline):
    """Runs the program; adds a verdict of its own if that hangs or crashes. True: it is done."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors,
                                   stdin=subprocess.DEVNULL, start_new_session=True)
        done = hung = False
        with process.stdout:
            for line in lines_of(process, silence, deadline):
                if line is None:
                    hung = True
                    break
                if result.take(line):
                    done = True
                    break
        code = end_group(process, 0 if hung else END)
        errors.seek(0)
        told = errors.read().decode(errors="replace").strip().splitlines()
    if done:
        return True
    if hung and time.monotonic() >= deadline:
        result.complaint = f"not done in time, after {result.runs} runs"
    elif hung:
        result.damage("parent hung", f"the parent said nothing for {silence:.0f} s")
    elif code < 0:
        result.damage("parent crashed", f"the parent: {signal.Signals(-code).name}")
    elif way == "fork":
        # The same program through cleanfork must not fail: it is no fault of the case.
        result.damage("parent failed", f"the parent: exited {code}, {' '.join(told[-1:])}")
    else:
        result.complaint = f"ended with {code}: {' '.join(told[-3:])}"
    return False


def run(case, way, form):
    result, begin = Result(), time.monotonic()
    tries, deadline = case.tries[form], begin + LIMIT[form]
    silence = SILENCE.get(way, SILENCE_OTHERWISE)
    for _ in range(RESTARTS):
        left = tries - result.runs
        if left <= 0:
            break
        command = [*case.command, case.name, "--with", way, "--tries", str(left)]
        if run_once(command, way, result, silence, deadline) or result.complaint:
            break
    if result.runs == 0 and not result.complaint:
        result.complaint = "nothing was tried"
    result.seconds = time.monotonic() - begin
    return result


# ---- the table


ROW = "  {:43} {:20} {:6} {:>4} {:>10} {:>9}"
HEAD = ROW.format("", "", "", "", "damaged", "damaged") + "\n" + ROW.format(
    "hazard", "case", "", "runs", "with fork", "cleanfork")


def print_case(case, plain, clean, verbose):
    broken = f"{plain.damaged} survives" if plain.damaged == 0 else str(plain.damaged)
    print(ROW.format(case.title[:43], case.name, case.language, plain.runs, broken, clean.damaged),
          flush=True)
    for way, result in (("fork", plain), ("cleanfork", clean)):
        if result.complaint:
            print(f"      {way}: {result.complaint}")
        if verbose or (way == "cleanfork" and result.damaged):
            for kind, evidence in sorted(result.evidence.items()):
                print(f"      {way}, {kind} {result.kinds[kind]}: {evidence}")


def figures_of(case, results):
    """Lines for what a case measured, a column for each way."""
    names = list(dict.fromkeys(name for r in results.values() for name in r.figures))
    if not names:
        return []
    lines = [f"  {case.name} ({case.language}), {case.title}", " " * 44 + "".join(
        f"{way:>14}" for way in results)]
    for name in names:
        values = "".join(f"{sorted(r.figures[name])[len(r.figures[name]) // 2]:14.2f}"
                         if name in r.figures else " " * 14 for r in results.values())
        lines.append(f"    {name.replace('_', ' '):40}{values}")
    return lines


def is_sound(case, results):
    """Nothing damaged through cleanfork, and both ways ran to an end."""
    return results["cleanfork"].damaged == 0 and not any(r.complaint for r in results.values())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="fewer tries, as in CI")
    parser.add_argument("--json", action="store_true", help="an object instead of the table")
    parser.add_argument("--list", action="store_true", help="the cases")
    parser.add_argument("-v", "--verbose", action="store_true", help="what was seen, too")
    parser.add_argument("--program", default=DEFAULT_PROGRAM, help=argparse.SUPPRESS)
    parser.add_argument("cases", nargs="*", metavar="CASE", help="all of that name or group")
    options = parser.parse_args()
    form = "quick" if options.quick else "full"

    known = cases(options.program)
    unknown = set(options.cases) - {c.name for c in known} - {str(c.group) for c in known}
    if unknown:
        parser.error(f"no such case: {', '.join(sorted(unknown))}; --list tells them")
    chosen = [c for c in known
              if not options.cases or c.name in options.cases or str(c.group) in options.cases]
    if options.list:
        for c in chosen:
            print(f"{c.group} {c.name:16} {c.language:7} {c.title}")
        return 0

    begin, group, all_results = time.monotonic(), 0, []
    if not options.json:
        print(HEAD)
    for case in chosen:
        if case.group != group and not options.json:
            group = case.group
            print(f"{group} {GROUPS[group]}", flush=True)
        ways = ("fork", "posix_spawn", "cleanfork") if case.group == 7 else ("fork", "cleanfork")
        results = {way: run(case, way, form) for way in ways}
        all_results.append((case, results))
        if not options.json:
            print_case(case, results["fork"], results["cleanfork"],
                       options.verbose or bool(options.cases))
    return report(all_results, options, time.monotonic() - begin)


def report(all_results, options, seconds):
    unsound = [case.name for case, results in all_results if not is_sound(case, results)]
    if options.json:
        print(json.dumps({"seconds": round(seconds, 1), "sound": not unsound, "cases": [
            {"group": case.group, "name": case.name, "language": case.language,
             "title": case.title, **{way: r.as_json() for way, r in results.items()}}
            for case, results in all_results]}, indent=1))
        return 1 if unsound else 0
    figures = [line for case, results in all_results for line in figures_of(case, results)]
    if figures:
        print("\nFigures, medians:", *figures, sep="\n")
    runs = {way: sum(r[way].runs for _, r in all_results) for way in ("fork", "cleanfork")}
    damaged = {way: sum(r[way].damaged for _, r in all_results) for way in ("fork", "cleanfork")}
    survived = sum(r["fork"].damaged == 0 for _, r in all_results)
    print(f"\n{len(all_results)} hazards in {seconds:.0f} s: with fork {damaged['fork']} of "
          f"{runs['fork']} runs damaged, {survived} hazards survived here;\n"
          f"with cleanfork {damaged['cleanfork']} of {runs['cleanfork']}.")
    if unsound:
        print("Not as it must be:", ", ".join(unsound))
    return 1 if unsound else 0


if __name__ == "__main__":
    sys.exit(main())
