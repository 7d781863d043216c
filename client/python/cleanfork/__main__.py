"""python3 -m cleanfork [--warm N] [--preload MODULE]... script.py ARGS... | -m MODULE ARGS...

Runs an unchanged program with its multiprocessing served by cleanfork: the start method
"forkserver", and the default one.
"""

from __future__ import annotations

import argparse
import builtins
import multiprocessing.context as context
import os
import pkgutil
import runpy
import sys
import types
from importlib.machinery import SourceFileLoader
from typing import Any

from cleanfork._mp.context import drop_in, registered
from cleanfork.multiprocessing import install


def _run(program: str, is_module: bool) -> None:
    """What `python3 program` and `python3 -m program` do; __main__ stays the program's to the end."""
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    run_as_main: Any = runpy._run_module_as_main  # type: ignore[attr-defined]
    is_file = not is_module and pkgutil.get_importer(program) is None
    if not sys.flags.safe_path:
        at = os.path.dirname(os.path.realpath(program)) if is_file else program
        sys.path[0] = os.getcwd() if is_module else at
    if is_module:
        run_as_main(program)
    elif not is_file:  # a directory or an archive
        run_as_main("__main__", alter_argv=False)
    else:
        loader = SourceFileLoader("__main__", program)
        with open(program, "rb") as file:
            code = compile(file.read(), program, "exec", dont_inherit=True)
        main.__dict__.update(__file__=program, __cached__=None, __loader__=loader,
                             __builtins__=builtins)
        exec(code, main.__dict__)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python3 -m cleanfork",
        description="Runs a Python program whose processes come from a clean forkserver.")
    parser.add_argument("--warm", type=int, default=1, metavar="N",
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
    for ctx in (registered, drop_in):
        ctx.warm = chosen.warm
        ctx.unclean = chosen.unclean
        ctx.preload = tuple(chosen.preload)
    install()
    default: Any = context._default_context
    default._default_context = registered
    sys.argv[:] = [chosen.program, *chosen.args]
    _run(chosen.program, chosen.module)


if __name__ == "__main__":
    main()
