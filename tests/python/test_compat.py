"""What is private in CPython is named by cleanfork/_compat.py alone, and is there."""

import ast
import asyncio
import contextlib
import importlib
import inspect
import multiprocessing
import os
import signal
import sys
import unittest

import cleanfork
import cleanfork.asyncio
from cleanfork import _compat
from mp_support import Program, Programs, ask, ctx
from support import DEADLINE, run_python

HOME = os.path.dirname(os.path.abspath(cleanfork.__file__))
# numpy's, joblib's, pytest's; what tuples and os have is public.
OF_OTHERS = {"_bit_generator", "_seed_seq", "_DEFAULT_START_METHOD", "_prepareconfig",
             "_do_configure", "_tmp_path_factory", "_basetemp", "_method", "_asdict", "_exit"}
OF_BASES = {name for names in _compat.INHERITED.values() for name in names}


def is_private(name):
    return name.startswith("_") and not name.startswith("__") and name != "_"


def files():
    for directory, _, names in os.walk(HOME):
        for name in names:
            path = os.path.join(directory, name)
            if name.endswith(".py") and name != "_compat.py":
                with open(path) as file:
                    yield os.path.relpath(path, HOME), ast.parse(file.read())


def defined(tree):
    """The names that a file itself gives to something."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                yield node.attr


def used(tree):
    """(what it is asked of, name, line) of each attribute, and of each name from a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield ast.unparse(node.value), node.attr, node.lineno
        elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("cleanfork"):
            for each in node.names:
                yield node.module, each.name, node.lineno
        elif (isinstance(node, ast.Call) and len(node.args) > 1
              and getattr(node.func, "id", "") in ("getattr", "setattr", "hasattr", "delattr")
              and isinstance(node.args[1], ast.Constant)):
            yield ast.unparse(node.args[0]), node.args[1].value, node.lineno


def private_things(trees):
    ours = {name for _, tree in trees for name in defined(tree)} - OF_BASES
    for path, tree in trees:
        for owner, name, line in used(tree):
            if not is_private(name) or name in OF_OTHERS or name in ours:
                continue
            if not (owner in ("self", "cls", "super()") and name in OF_BASES):
                yield f"{path}:{line}: {owner}.{name}"


class OneFile(unittest.TestCase):
    def test_names_all_that_is_private_in_cpython(self):
        self.assertEqual(list(private_things(list(files()))), [])

    def test_is_found_wherever_it_is_named(self):
        text = "import atexit\natexit._clear()\ngetattr(x, '_popen', 1)\nself._no_such = self._nor"
        text += "\nfrom weakref import _this\np._no_such\nsuper()._wait()\n"
        self.assertEqual(sorted(private_things([("f.py", ast.parse(text))])),
                         ["f.py:2: atexit._clear", "f.py:3: x._popen", "f.py:4: self._nor",
                          "f.py:5: weakref._this"])

    def test_has_each_name_that_a_class_has_of_its_base(self):
        for path, names in _compat.INHERITED.items():
            module, _, kind = path.rpartition(".")
            base = getattr(importlib.import_module(module), kind)
            text = "".join(inspect.getsource(each) for each in base.__mro__[:-1])
            for name in names:
                with self.subTest(f"{path}.{name}"):
                    self.assertRegex(text, rf"\b{name}\b")


def classes():
    for name in ("subprocess", "asyncio", "multiprocessing", "_mp.popen", "_mp.drop_in"):
        module = importlib.import_module(f"cleanfork.{name}")
        for kind in vars(module).values():
            if isinstance(kind, type) and kind.__module__.startswith("cleanfork"):
                yield kind


class Bases(unittest.TestCase):
    def test_nothing_of_a_base_is_replaced_that_is_not_named(self):
        for kind in classes():
            bases = [each for each in kind.__mro__[1:-1] if each.__module__.partition(".")[0]
                     in ("subprocess", "multiprocessing", "asyncio")]
            for name in filter(is_private, vars(kind)):
                if any(name in vars(base) for base in bases):
                    with self.subTest(f"{kind.__module__}.{kind.__qualname__}.{name}"):
                        self.assertIn(name, OF_BASES)


class Methods(unittest.TestCase):
    def test_is_not_among_the_start_methods_that_are_listed(self):
        before = multiprocessing.get_all_start_methods()
        self.assertEqual(multiprocessing.get_context("cleanfork").get_start_method(), "cleanfork")
        self.assertEqual(multiprocessing.get_all_start_methods(), before)
        self.assertEqual(set(before), {"fork", "spawn", "forkserver"})

    def test_no_other_name_is_known(self):
        with self.assertRaisesRegex(ValueError, "cannot find context for 'cleanforks'"):
            multiprocessing.get_context("cleanforks")

    def test_a_child_that_is_interrupted_raises_keyboard_interrupt(self):
        ours, theirs = ctx.Pipe()
        p = ctx.Process(target=interrupted, args=(theirs,))
        p.start()
        theirs.close()
        with ours:
            self.assertEqual(ours.recv(), "begun")
            if hasattr(p, "interrupt"):  # of 3.14 on
                p.interrupt()
            else:
                os.kill(p.pid, signal.SIGINT)
            self.assertEqual(ours.recv(), "KeyboardInterrupt")
        p.join(DEADLINE)
        self.assertEqual(p.exitcode, 0)

    @unittest.skipIf(sys.version_info < (3, 14), "InterpreterPoolExecutor is of 3.14 on")
    def test_a_child_may_have_interpreters(self):
        self.assertEqual(ask(sum_in_interpreters), 6)


def interrupted(connection):
    try:
        connection.send("begun")
        signal.pause()
    except KeyboardInterrupt:
        connection.send("KeyboardInterrupt")


def sum_in_interpreters():
    from concurrent.futures import InterpreterPoolExecutor

    with InterpreterPoolExecutor(2) as executor:
        return sum(executor.map(abs, (-1, -2, -3)))


class Preloads(unittest.TestCase):
    def start(self, on_error):
        return run_python(f"""
import warnings
import cleanfork
if __name__ == "__main__":
    ctx = cleanfork.get_context(main=False)
    ctx.set_forkserver_preload(["no_such"]{on_error})
    p = ctx.Process(target=print, args=("done",))
    p.start()
    p.join()
""")

    def test_one_that_is_missing_is_an_error_unless_it_was_said_otherwise(self):
        for on_error in ("", ", on_error='fail'"):
            p = self.start(on_error)
            self.assertIn("No module named 'no_such'", p.stderr)
            self.assertEqual((p.returncode, p.stdout), (1, ""))

    def test_one_that_is_missing_may_be_ignored(self):
        p = self.start(", on_error='ignore'")
        self.assertEqual((p.returncode, p.stdout, p.stderr), (0, "done\n", ""))

    def test_one_that_is_missing_may_be_warned_of(self):
        p = self.start(", on_error='warn'")
        self.assertEqual((p.returncode, p.stdout), (0, "done\n"))

    def test_what_is_to_be_done_is_checked_and_goes_along(self):
        context = cleanfork.get_context(main=False)
        with self.assertRaisesRegex(ValueError, "on_error must be 'ignore', 'warn', or 'fail'"):
            context.set_forkserver_preload(["json"], on_error="no")
        context.set_forkserver_preload(["json"], on_error="ignore")
        kind, arguments = context.__reduce__()
        self.assertEqual(kind(*arguments).on_error, "ignore")


LAZY = """
lazy import wave
import sys
import cleanfork

def tell():
    before = "colorsys" in sys.modules, "wave" in sys.modules
    print(*before, wave.Error.__name__)

if __name__ == "__main__":
    ctx = cleanfork.get_context(preload=["colorsys"])
    p = ctx.Process(target=tell)
    p.start()
    p.join()
"""


@unittest.skipIf(sys.version_info < (3, 15), "lazy imports are of Python 3.15 on")
class LazyImports(Programs):
    def test_a_preload_is_loaded_and_what_is_said_to_be_lazy_is_not(self):
        for options in ((), ("-X", "lazy_imports=all")):
            with self.subTest(options), Program(LAZY) as program:
                p = program.run(*options, program.path)
                self.assertEqual((p.returncode, p.stdout, p.stderr), (0, "True False Error\n", ""))


class Transport(unittest.TestCase):
    def test_signals_go_by_the_pidfd_and_never_by_the_number(self):
        async def main():
            p = await cleanfork.asyncio.create_subprocess_exec("sleep", "1000")
            p.send_signal(0)
            p.kill()
            return await p.wait()

        def refuse(*arguments):
            raise AssertionError(f"os.kill{arguments}")

        stock, os.kill = os.kill, refuse
        try:
            self.assertEqual(asyncio.run(main()), -signal.SIGKILL)
        finally:
            os.kill = stock

    def test_one_that_has_ended_gets_no_signal(self):
        async def main():
            p = await cleanfork.asyncio.create_subprocess_exec("true")
            await p.wait()
            for signal_it in (p.terminate, p.kill, lambda: p.send_signal(signal.SIGTERM)):
                with contextlib.suppress(ProcessLookupError):
                    signal_it()
            return p.returncode

        self.assertEqual(asyncio.run(main()), 0)


class Notes(unittest.TestCase):
    def test_a_note_is_told_with_the_error(self):
        e = OSError(5, "words")
        _compat.add_note(e, "a note")
        self.assertIn("a note", "".join([str(e), *getattr(e, "__notes__", [])]))


if __name__ == "__main__":
    unittest.main()
