"""What a program of this folder says to run.py, and how it chooses its processes."""

import json
import multiprocessing
import os
import sys

METHOD = sys.argv[1] if len(sys.argv) > 1 else ""
SHORT = "--short" in sys.argv


def context(**options):
    """The context of multiprocessing for METHOD."""
    if METHOD != "cleanfork":
        return multiprocessing.get_context(METHOD)
    import cleanfork

    return cleanfork.get_context(**options)


def up():
    """All processes are up: run.py looks at their memory, and then this returns."""
    print("up", flush=True)
    sys.stdin.readline()


def done(result, start, **figures):
    """What must be the same by each method, the seconds of the start, and other figures."""
    print(json.dumps({"result": result, "start": start, **figures}), flush=True)


def scaled(usual, short):
    return short if SHORT else usual


def mark():
    """A variable that all processes of this run have."""
    return os.environ["ECOSYSTEM_RUN"]
