"""python3 -m cleanfork [--warm N] [--preload MODULE]... script.py ARGS... | -m MODULE ARGS...

Runs an unchanged program with its multiprocessing served by cleanfork: the start method
"forkserver", and the default one.
"""

from __future__ import annotations

import argparse
import multiprocessing.context as context
import os
import runpy
import sys
from typing import Any

from cleanfork import _mp_popen
from cleanfork.multiprocessing import _registered, install


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python3 -m cleanfork",
        description="Runs a Python program whose processes come from a clean forkserver.")
    parser.add_argument("--warm", type=int, default=0, metavar="N",
                        help="processes kept forked ahead")
    parser.add_argument("--preload", action="append", default=[], metavar="MODULE",
                        help="imported once, in the template; may be repeated")
    parser.add_argument("--unclean", choices=("refuse", "warn"), default="refuse",
                        help="what to do with a template that has threads or sockets")
    parser.add_argument("-m", dest="module", action="store_true",
                        help="the program is a module, not a file")
    parser.add_argument("program", help="script or module")
    parser.add_argument("args", nargs=argparse.REMAINDER)
    chosen = parser.parse_args()
    for ctx in (_registered, _mp_popen._drop_in):
        ctx.warm = chosen.warm
        ctx.unclean = chosen.unclean
        ctx.preload = ("__main__", *chosen.preload)
    install()
    default: Any = context._default_context  # type: ignore[attr-defined]
    default._default_context = _registered
    sys.argv[:] = [chosen.program, *chosen.args]
    if chosen.module:
        sys.path[0] = os.getcwd()
        runpy.run_module(chosen.program, run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = os.path.dirname(os.path.abspath(chosen.program))
        runpy.run_path(chosen.program, run_name="__main__")


if __name__ == "__main__":
    main()
