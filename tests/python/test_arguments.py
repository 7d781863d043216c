"""Arguments of a wrong type or range: Python's own errors, which name the argument, everywhere."""

import asyncio
import copy
import os
import pickle
import re
import unittest

import cleanfork
import cleanfork.asyncio
from cleanfork import _cleanfork
from support import open_descriptors

# What pybind11 says of what does not fit, and what it says of C++.
BINDING = re.compile(r"incompatible|Unable to cast|C\+\+|std::|pybind|Invoked with|"
                     r"supported:|constructor|overload")
HUGE = 2**70


class Odd:
    """Of no use as any argument."""


# Each keyword of a spawn, and what is wrong for it.
NUMBERS = ("umask", "nice", "oom_score_adj", "user", "group", "process_group",
           "controlling_terminal", "parent_death_signal")
LISTS_OF_NUMBERS = ("affinity", "groups", "ignored_signals")
WRONG = {
    "argv0": (1, Odd(), []),
    "stdin": (Odd(), 1.5, []), "stdout": (Odd(), 1.5), "stderr": (Odd(), 1.5),
    "fds": (1, "x", ["x"], [1.5], {"x": 1}, {1: "x"}, {1: None}),
    "listen_fds": (1, "xy", [1], [(1,)], [("x", "y")], [(0, 1)], [(0, "a", "b")]),
    "env": (1, "x", ["A"], {"A": 1}, {1: "A"}, {"A": None}),
    "cwd": (Odd(), 1.5, []),
    "rlimits": (1, "x", [1], {"x": (1, 1)}, {1: 1}, {1: (1,)}, {1: ("a", "b")}, {1: (1.5, 1)}),
    "scheduling": (1, "xy", (1,), ("a", "b"), (1.5, 0)),
    "cgroup": (Odd(), 1.5, []),
    "lifetime": (1, "x", Odd(), cleanfork.Lifetime(signal="x"), cleanfork.Lifetime(grace="x"),
                 cleanfork.Lifetime(target=1)),
    "queue_timeout": ("x", Odd(), []),
    "timeout": ("x", Odd(), [], 1j),
    "args": (1, "xy", b"xy", Odd(), [1], [None]),
    **{name: ("x", 1.5, Odd(), [], b"1") for name in NUMBERS},
    **{name: (1, "12", [1.5], ["x"], [None]) for name in LISTS_OF_NUMBERS},
}
TOO_BIG = {
    **{name: (HUGE, -HUGE) for name in NUMBERS},
    **{name: ([HUGE], [-HUGE]) for name in LISTS_OF_NUMBERS},
    "stdin": (HUGE,), "fds": ([HUGE], {HUGE: 0}, {5: HUGE}), "cwd": (HUGE,),
    "rlimits": ({1: (HUGE, HUGE)}, {1: (-2, -2)}, {HUGE: (1, 1)}), "scheduling": ((HUGE, 0),),
    "lifetime": (cleanfork.Lifetime(signal=HUGE),), "timeout": (10**400,),
}
TEMPLATE = {
    "base": (1,), "initializer": (1,), "initializer_args": (1, "xy", [1]),
    "initializer_payload": (1, "text"), "initializer_fds": (1, [1], {"a": "x"}, {1: 1}),
    "warm": ("x", 1.5), "start_timeout": ("x",), "call_timeout": ("x",),
    "allowed_descriptors": (1, ["x"]),
}


class Refused(unittest.TestCase):
    def setUp(self):
        self.client = cleanfork.client()

    def refused(self, kinds, call, *names):
        with self.assertRaises(kinds) as caught:
            call()
        text = str(caught.exception)
        self.assertNotRegex(text, BINDING)
        for name in names:
            self.assertIn(name, text)
        return text

    def each_refused(self, kind, wrong, call):
        for name, values in wrong.items():
            for value in values:
                with self.subTest(name=name, value=repr(value)[:40]):
                    self.refused(kind, lambda: call(name, value), name)


class OfASpawn(Refused):
    def spawn(self, name, value):
        return self.client.spawn("true", **{name: value})

    def test_of_another_type(self):
        self.each_refused(TypeError, WRONG, self.spawn)

    def test_that_no_c_type_can_have(self):
        self.each_refused(OverflowError, TOO_BIG, self.spawn)

    def test_nothing_is_left_open(self):
        self.client.spawn("true").wait()
        before = open_descriptors()
        for name, values in WRONG.items():
            with self.assertRaises(TypeError):
                self.spawn(name, values[0])
        self.assertEqual(open_descriptors(), before)

    def test_a_program_of_another_type(self):
        for program in (1.5, None, Odd(), []):
            self.refused(TypeError, lambda: self.client.spawn(program), "program")

    def test_null_bytes_and_surrogates(self):
        self.assertEqual(self.refused(ValueError, lambda: self.client.spawn("a\0b")),
                         "embedded null byte")
        for name, value in (("args", ["a\0"]), ("cwd", "a\0"), ("env", {"A": "\0"}), ("argv0", "\0")):
            self.assertEqual(self.refused(ValueError, lambda: self.spawn(name, value)),
                             "embedded null byte")
        self.refused(UnicodeEncodeError, lambda: self.client.spawn("\ud800"))
        self.refused(cleanfork.SpawnError, lambda: self.client.spawn("/\udcff"), "\udcff")

    def test_values_that_nothing_can_be(self):
        self.refused(ValueError, lambda: self.spawn("process_group", -1), "process_group")
        self.refused(ValueError, lambda: self.spawn("lifetime", cleanfork.Lifetime(target="x")))
        nan = cleanfork.Lifetime(grace=float("nan"))
        self.refused(ValueError, lambda: self.spawn("lifetime", nan), "grace")
        self.refused(ValueError, lambda: self.spawn("env", {"A=B": ""}))

    def test_an_object_that_answers_with_another_type(self):
        class Number:
            def __index__(self):
                return "five"

        class Path:
            def __fspath__(self):
                return 5

        class File:
            def fileno(self):
                return "x"

        class Truth:
            def __bool__(self):
                raise KeyError("no truth")
        self.refused(TypeError, lambda: self.spawn("nice", Number()))
        self.refused(TypeError, lambda: self.spawn("cwd", Path()))
        self.refused(TypeError, lambda: self.spawn("stdin", File()))
        self.refused(KeyError, lambda: self.spawn("no_new_privs", Truth()))
        with self.assertRaises(ZeroDivisionError):
            self.client.spawn("true", (1 / 0 for _ in "x"))

    def test_what_counts_as_a_number_or_a_path(self):
        class Number:
            def __index__(self):
                return 3
        process = self.client.spawn(b"true", (), nice=Number(), timeout=5, umask=True)
        self.assertTrue(process.wait())

    def test_words_that_are_missing_unknown_or_double(self):
        spawn = self.client.spawn
        self.refused(TypeError, lambda: spawn(), "spawn() missing required argument: 'program'")
        self.refused(TypeError, lambda: spawn("true", nicer=1), "nicer")
        self.refused(TypeError, lambda: spawn("true", (), 5), "at most 2 positional arguments")
        self.refused(TypeError, lambda: spawn("true", program="x"), "multiple values", "program")


class OfOtherMethods(Refused):
    def test_of_a_call(self):
        call = self.client.call
        self.refused(TypeError, lambda: call(1, "e"), "template_name")
        self.refused(TypeError, lambda: call("t", 1), "entry")
        self.refused(TypeError, lambda: call("t", "e", "text"), "payload")
        self.refused(TypeError, lambda: call("t", "e", named_fds=[1]), "named_fds")
        self.refused(TypeError, lambda: call("t", "e", named_fds={"a": "x"}), "named_fds")
        self.refused(TypeError, lambda: call("t", "e", session_name=1), "session_name")
        self.refused(TypeError, lambda: call("t", "e", claim_name=1), "claim_name")
        self.each_refused(TypeError, WRONG, lambda name, value: call("t", "e", **{name: value}))
        self.each_refused(OverflowError, TOO_BIG,
                          lambda name, value: call("t", "e", **{name: value}))

    def test_of_a_template(self):
        self.each_refused(TypeError, WRONG | TEMPLATE, lambda name, value:
                          self.client.add_template("t", "true", **{name: value}))
        self.each_refused(OverflowError, TOO_BIG | {"warm": (-1, HUGE)}, lambda name, value:
                          self.client.add_template("t", "true", **{name: value}))
        self.refused(TypeError, lambda: self.client.add_template(5), "name")
        for name in ("template_info", "reload_template", "remove_template"):
            method = getattr(self.client, name)
            self.refused(TypeError, method, name, "missing")
            self.refused(TypeError, lambda: method(5), "name")
            self.refused(TypeError, lambda: method("x", timeout="y"), "timeout")
            self.refused(TypeError, lambda: method("x", what=1), "what")

    def test_of_questions(self):
        for name in ("templates", "stats", "list"):
            method = getattr(self.client, name)
            self.refused(TypeError, lambda: method("x"), "timeout")
            self.refused(OverflowError, lambda: method(10**400))
            self.refused(TypeError, lambda: method(1, 2), name)
        for name in ("close", "fileno", "open_session"):
            self.refused(TypeError, lambda: getattr(self.client, name)(1), name)

    def test_of_a_process(self):
        process = self.client.spawn("true")
        self.refused(TypeError, lambda: process.wait("x"), "timeout")
        self.refused(TypeError, lambda: process.wait(1, 2), "wait")
        self.refused(TypeError, lambda: process.signal("x"), "number")
        self.refused(OverflowError, lambda: process.signal(HUGE), "number")
        self.refused(TypeError, lambda: process.signal_group(1.5), "number")
        for name in ("poll", "take_stdin", "take_stdout", "take_stderr", "take_result"):
            self.refused(TypeError, lambda: getattr(process, name)(1), name)
        self.refused(OSError, lambda: process.signal(999))
        process.wait()

    def test_of_functions(self):
        self.refused(TypeError, lambda: cleanfork.launch(5), "daemon")
        self.refused(TypeError, lambda: cleanfork.launch(daemon_args=5), "daemon_args")
        self.refused(TypeError, lambda: cleanfork.launch(log_fd="x"), "log_fd")
        self.refused(TypeError, lambda: cleanfork.launch(timeout="x"), "timeout")
        self.refused(TypeError, lambda: cleanfork.connect(5), "path")
        self.refused(TypeError, lambda: cleanfork.connect(timeout=[]), "timeout")
        self.refused(TypeError, lambda: cleanfork.connect("/x", "y"), "connect")
        self.refused(TypeError, lambda: cleanfork.attach("x"), "fd")
        self.refused(TypeError, lambda: cleanfork.attach(), "fd")
        self.refused(TypeError, lambda: cleanfork.attach(0, launched="text"), "launched")
        self.refused(OverflowError, lambda: cleanfork.attach(HUGE), "fd")
        self.refused(ValueError, lambda: cleanfork.attach(-1))
        self.refused(TypeError, lambda: cleanfork.read_result("x"), "fd")
        self.refused(TypeError, lambda: _cleanfork.serve_template("x", None), "control")
        self.refused(TypeError, lambda: _cleanfork.current_umask(1), "current_umask")
        cleanfork.stop()  # one that is there already would be given
        self.refused(TypeError, lambda: cleanfork.start(timeout="x"), "timeout")
        self.refused(TypeError, lambda: cleanfork.start(log_fd="x"), "log_fd")

    def test_a_descriptor_that_was_refused_stays_open(self):
        r, w = os.pipe()
        self.refused(TypeError, lambda: cleanfork.attach(r, timeout="x"), "timeout")
        os.close(r)
        os.close(w)


class OfObjects(Refused):
    def test_none_can_be_made_copied_or_inherited_from(self):
        process = self.client.spawn("true")
        status = process.wait()
        for thing in (self.client, process, status):
            kind = type(thing)
            with self.subTest(kind=kind):
                self.refused(TypeError, kind, "cannot create", kind.__name__)
                self.refused(TypeError, lambda: kind(1, a=2), "cannot create")
                self.refused(TypeError, lambda: copy.copy(thing), "cannot pickle")
                self.refused(TypeError, lambda: pickle.dumps(thing), "cannot pickle")
                self.refused(TypeError, lambda: type("Sub", (kind,), {}), kind.__name__)

    def test_methods_of_what_is_no_such_object(self):
        nobody = _cleanfork.Client.__new__(_cleanfork.Client)
        self.refused(TypeError, nobody.fileno, "Client")
        self.refused(TypeError, lambda: nobody.connected, "Client")
        self.refused(TypeError, lambda: _cleanfork.Client.spawn(5, "true"), "spawn", "int")
        self.refused(TypeError, lambda: _cleanfork.Client.spawn(), "spawn")
        self.refused(TypeError, lambda: _cleanfork.Client.connected.fget(5), "int")
        self.refused(TypeError, lambda: _cleanfork.Process.pid.fget(self.client), "Client")
        self.refused(TypeError, lambda: bool(_cleanfork.ExitStatus.__new__(_cleanfork.ExitStatus)))

    def test_a_status_is_no_number(self):
        status = self.client.spawn("true").wait()
        self.assertFalse(status == 0)
        self.assertTrue(status != 0)
        self.assertTrue(status == self.client.spawn("true").wait())
        self.assertFalse(status == self.client.spawn("false").wait())
        with self.assertRaises(TypeError):
            hash(status)

    def test_help_has_no_types_of_the_binding(self):
        for kind in (_cleanfork.Client, _cleanfork.Process, _cleanfork.ExitStatus):
            for name, value in vars(kind).items():
                if not name.startswith("_"):
                    self.assertNotRegex(value.__doc__ or "", BINDING)
        self.assertEqual(_cleanfork.Client.spawn.__doc__.splitlines()[-1].strip(),
                         "spawn(self, program, args=(), *, like_caller=False, timeout=None, "
                         "**attributes)")


def target():
    pass


class OfOtherModules(Refused):
    def test_of_a_context(self):
        wrong = {k: WRONG[k] for k in ("fds", "env", "rlimits", "affinity", "nice", "umask",
                                       "oom_score_adj", "scheduling", "lifetime", "cgroup",
                                       "process_group")}

        def start(name, value):
            context = cleanfork.get_context(warm=0, **{name: value})
            context.Process(target=target).start()
        self.each_refused(TypeError, wrong, start)
        self.refused(TypeError, lambda: start("nicer", 5), "nicer")

    def test_of_a_context_itself(self):
        for options in ({"preload": "json"}, {"preload": 5}, {"preload": [5]}, {"shared": 5},
                        {"child_hook": 5}):
            with self.subTest(options=options):
                self.refused(TypeError, lambda: cleanfork.get_context(**options))
        context = cleanfork.get_context(warm="x")
        self.refused(TypeError, context.start, "warm")
        self.refused(TypeError, lambda: context.set_forkserver_preload("json"), "module_names")
        self.refused(ValueError, lambda: cleanfork.get_context(unclean=5), "unclean")

    def test_of_a_supervisor(self):
        supervisor = cleanfork.prefork.Supervisor
        for options in ({"workers": "x"}, {"workers": 1.5}, {"args": 5}, {"grace": "x"},
                        {"target": 5}, {"nonsense": 1}):
            with self.subTest(options=options):
                self.refused(TypeError,
                             lambda: supervisor(**{"target": target, "workers": 1, **options}))
        self.refused(ValueError, lambda: supervisor(target, 0))

    def test_of_asyncio(self):
        async def create(*words, **keywords):
            return await cleanfork.asyncio.create_subprocess_exec(*words, **keywords)
        for keywords in ({"umask": "x"}, {"pass_fds": 5}, {"cwd": 1.5}, {"env": 5},
                         {"process_group": "x"}, {"nicer": 5}, {"stdin": Odd()}):
            with self.subTest(keywords=keywords):
                self.refused((TypeError, AttributeError),
                             lambda: asyncio.run(create("true", **keywords)))
        self.refused(TypeError, lambda: asyncio.run(create(5)))


if __name__ == "__main__":
    unittest.main()
