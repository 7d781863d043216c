"""python3 -m cleanfork [--warm N] [--preload MODULE]... PROGRAM ARGS...

PROGRAM is all that python3 takes: a script, compiled or not, a directory or an archive,
-m MODULE, -c CODE, or - or nothing for standard input. It is run unchanged, with its
multiprocessing served by cleanfork: the start method "forkserver", and the default one.

python3 -m cleanfork enable, or disable: whether programs of this environment that never import
cleanfork find its start method by name.
"""

from __future__ import annotations

import argparse
import builtins
import os
import pkgutil
import sys
import types
from importlib.machinery import BuiltinImporter, SourceFileLoader, SourcelessFileLoader
from typing import Any

from cleanfork import _compat
from cleanfork._mp.context import drop_in, registered
from cleanfork.multiprocessing import install


_WITH_VALUE = ("--warm", "--preload", "--unclean", "--pickler")


def _new_main(**attributes: Any) -> types.ModuleType:
    """As python3 makes it; it stays the program's to the end."""
    main = types.ModuleType("__main__")
    main.__dict__.update(__builtins__=builtins, **attributes)
    if sys.version_info < (3, 14):  # PEP 649
        main.__dict__["__annotations__"] = {}
    # Instances of its classes come from processes where it has the second name.
    sys.modules["__main__"] = sys.modules["__mp_main__"] = main
    return main


def _set_path(first: str) -> None:
    if not _compat.is_safe_path():
        sys.path[0] = first


def _run_code(code: str) -> None:
    _set_path("")
    main = _new_main(__loader__=BuiltinImporter)
    exec(compile(code, "<string>", "exec", dont_inherit=True), main.__dict__)


def _run_input() -> None:
    _set_path("")
    if sys.stdin is not None and sys.stdin.isatty():
        import code

        return code.interact(local=_new_main(__loader__=BuiltinImporter).__dict__)
    text = sys.stdin.buffer.read() if sys.stdin is not None else b""
    main = _new_main(__loader__=BuiltinImporter, __file__="<stdin>", __cached__=None)
    exec(compile(text, "<stdin>", "exec", dont_inherit=True), main.__dict__)


def _run_module(name: str, **options: Any) -> None:
    _new_main()
    _compat.run_module_as_main(name, **options)


def _run_path(path: str) -> None:
    if pkgutil.get_importer(path) is not None:  # a directory or an archive: even with -P
        if _compat.is_safe_path():
            sys.path.insert(0, "")
        sys.path[0] = path
        return _run_module("__main__", alter_argv=False)
    _set_path(os.path.dirname(os.path.realpath(path)))
    try:
        file: Any = open(path, "rb")
    except OSError as e:
        print(f"{sys.executable}: can't open file {os.path.abspath(path)!r}: "
              f"[Errno {e.errno}] {e.strerror}", file=sys.stderr)
        sys.exit(2)
    path = os.path.join(os.getcwd(), path)
    with file:
        code = pkgutil.read_code(file)
        loader: type = SourceFileLoader if code is None else SourcelessFileLoader
        if code is None:
            file.seek(0)
            code = compile(file.read(), path, "exec", dont_inherit=True)
    module = _new_main(__file__=path, __cached__=None, __loader__=loader("__main__", path))
    exec(code, module.__dict__)


def _split(arguments: list[str]) -> tuple[list[str], str, str, list[str]]:
    """Our own options; how the program is given, what it is, and what it is to have."""
    own: list[str] = []
    while arguments:
        first, *rest = arguments
        if first in ("-c", "-m") and rest:
            return own, first, rest[0], rest[1:]
        if first[:2] in ("-c", "-m") and len(first) > 2:
            return own, first[:2], first[2:], rest
        if first == "-":
            return own, first, "", rest
        if not first.startswith("-"):
            return own, "", first, rest
        own.append(first)
        if first in _WITH_VALUE and rest:
            own.append(rest.pop(0))
        arguments = rest
    return own, "-", "", []


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m cleanfork", allow_abbrev=False,
        usage="%(prog)s [OPTION]... [-c CODE | -m MODULE | SCRIPT | -] [ARG]...",
        description="Runs a Python program whose processes come from a clean forkserver. The word "
                    "enable, alone: programs of this environment find the start method "
                    "'cleanfork' without importing it; disable: no longer.")
    parser.add_argument("--warm", type=int, default=1, metavar="N",
                        help="processes kept forked ahead")
    parser.add_argument("--preload", action="append", default=[], metavar="MODULE",
                        help="imported once, in the template; may be repeated")
    parser.add_argument("--unclean", choices=("refuse", "warn"), default="refuse",
                        help="what to do with a template that has threads or sockets")
    parser.add_argument("--pickler", metavar="MODULE",
                        help="such as cloudpickle: for what has no name to be pickled by")
    parser.add_argument("--logging", action="store_true",
                        help="its processes' log records are handled by the program")
    parser.add_argument("--die-with-parent", action="store_true",
                        help="all its processes end with the program, not only daemonic ones and "
                             "the workers of executors and pools")
    return parser


def _switch() -> bool:
    """Whether it was a word about the environment, and not a program."""
    word = sys.argv[1] if len(sys.argv) == 2 else ""
    if word not in ("enable", "disable") or os.path.exists(word):
        return False
    from cleanfork import _enable

    (_enable.enable if word == "enable" else _enable.disable)()
    return True


def main() -> None:
    if _switch():
        return
    own, how, program, arguments = _split(sys.argv[1:])
    chosen = _parser().parse_args(own)
    for ctx in (registered, drop_in):
        ctx.warm = chosen.warm
        ctx.unclean = chosen.unclean
        ctx.logging = chosen.logging
        ctx.die_with_parent = chosen.die_with_parent
        ctx.preload = tuple(chosen.preload)
        if chosen.pickler is not None:
            ctx.set_pickler(chosen.pickler)
    install()
    _compat.set_default_context(registered)
    given = len(sys.argv) > len(own) + 1
    sys.argv[:] = [how or program if given else "", *arguments]
    if how == "-c":
        _run_code(program)
    elif how == "-m":
        _set_path(os.getcwd())
        _run_module(program)
    elif how == "-":
        _run_input()
    else:
        _run_path(program)


if __name__ == "__main__":
    main()
