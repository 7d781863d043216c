"""What a process finds: the state of its parent of now, and what was asked for."""

import faulthandler
import logging
import multiprocessing.util
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import unittest
import warnings

import cleanfork
from mp_support import NothingLeft, ask, ctx
from shards import load_tests  # in several entries of ctest

try:
    import numpy.random
except ImportError:
    numpy = None


def environment():
    return dict(os.environ), os.getcwd(), sys.path, sys.argv


def new_umask():
    old = os.umask(0)
    os.umask(old)
    return old


def filters():
    return [(f[0], f[2].__name__) for f in warnings.filters]


def log_level():
    return multiprocessing.util.get_logger().level


def descriptors():
    return sorted(int(n) for n in os.listdir("/proc/self/fd"))


def link_of(fd):
    return os.readlink(f"/proc/self/fd/{fd}")


def read_stdin():
    return sys.stdin.read()


def say(text):
    print(text)
    print(text, file=sys.stderr)


def attributes():
    return (resource.getrlimit(resource.RLIMIT_CORE), os.nice(0), os.sched_getaffinity(0))


def signals():
    ignored = {s for s in signal.valid_signals() if signal.getsignal(s) == signal.SIG_IGN}
    return (signal.pthread_sigmask(signal.SIG_BLOCK, []), ignored,
            signal.getsignal(signal.SIGINT) is signal.default_int_handler)


def threads():
    return len(os.listdir("/proc/self/task")), threading.active_count()


def random_numbers():
    return random.random()


def numpy_numbers():
    return numpy.random.random()


def hook(process):
    process.hooked = process.name


def told_by_hook():
    return multiprocessing.current_process().hooked


def own_name():
    with open("/proc/self/comm") as f:
        return f.read().strip()


def set_name(process):
    with open("/proc/self/comm", "w") as f:
        f.write(process.name)


class OfTheParent(NothingLeft):
    def test_environment_directory_path_and_arguments_of_now(self):
        with tempfile.TemporaryDirectory() as d:
            os.environ["CLEANFORK_TEST_NEW"] = "\udcff new"
            removed = os.environ.pop("LANG", None)
            sys.path.append("/not/a/real/path")
            sys.argv.append("an argument")
            cwd = os.getcwd()
            # Modules of the tests are found by a path that stays.
            sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
            os.chdir(d)
            try:
                env, where, path, argv = ask(environment)
                self.assertEqual(env, dict(os.environ))
                self.assertEqual(where, d)
                self.assertIn("/not/a/real/path", path)
                self.assertEqual(argv, sys.argv)
            finally:
                os.chdir(cwd)
                sys.path.pop(0)
                sys.path.pop()
                sys.argv.pop()
                del os.environ["CLEANFORK_TEST_NEW"]
                if removed is not None:
                    os.environ["LANG"] = removed

    def test_umask_and_limits(self):
        old = os.umask(0o027)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))
        try:
            self.assertEqual(ask(new_umask), 0o027)
            self.assertEqual(ask(resource.getrlimit, resource.RLIMIT_NOFILE), (soft - 1, hard))
        finally:
            os.umask(old)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def test_warnings_filters(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            self.assertEqual(ask(filters), filters())
            self.assertIn(("error", "ResourceWarning"), filters())

    def test_log_level(self):
        logger = multiprocessing.util.get_logger()
        old = logger.level
        logger.setLevel(logging.CRITICAL + 3)
        try:
            self.assertEqual(ask(log_level), logging.CRITICAL + 3)
        finally:
            logger.setLevel(old)

    def test_faulthandler(self):
        was = faulthandler.is_enabled()
        for enabled in (True, False):
            faulthandler.enable() if enabled else faulthandler.disable()
            self.assertEqual(ask(faulthandler.is_enabled), enabled)
        if was:
            faulthandler.enable()

    def test_signals_are_those_of_a_fresh_interpreter_but_for_what_is_ignored(self):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        old = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        try:
            blocked, ignored, interruptible = ask(signals)
        finally:
            signal.signal(signal.SIGUSR2, old)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
        self.assertEqual(blocked, set())
        self.assertEqual(ignored, {signal.SIGPIPE, signal.SIGXFSZ, signal.SIGUSR2})
        self.assertEqual(ask(signals)[1], {signal.SIGPIPE, signal.SIGXFSZ})
        self.assertTrue(interruptible)

    def test_no_thread_and_no_descriptor_of_the_parent(self):
        kept = [os.open("/dev/null", os.O_RDONLY) for _ in range(5)]
        for fd in kept:
            os.set_inheritable(fd, True)
        done = threading.Event()
        thread = threading.Thread(target=done.wait)
        thread.start()
        try:
            self.assertEqual(ask(threads), (1, 1))
            first = ask(descriptors)
            kept += [os.dup(fd) for fd in kept]
            self.assertEqual(ask(descriptors), first)
            # 0, 1, 2, the listing; the parent, the tracker, a session, the answer.
            self.assertLessEqual(len(first), 9)
        finally:
            done.set()
            thread.join()
            for fd in kept:
                os.close(fd)

    def test_children_draw_different_random_numbers(self):
        numbers = [ask(random_numbers) for _ in range(5)]
        self.assertEqual(len(set(numbers)), 5)

    def test_with_a_warm_pool_too(self):
        warm = cleanfork.get_context(warm=3)
        os.environ["CLEANFORK_TEST_NEW"] = "of now"
        try:
            numbers = [ask(random_numbers, context=warm) for _ in range(6)]
            self.assertEqual(ask(environment, context=warm)[0], dict(os.environ))
        finally:
            del os.environ["CLEANFORK_TEST_NEW"]
        self.assertEqual(len(set(numbers)), 6)

    @unittest.skipIf(numpy is None, "numpy is not installed")
    def test_numpy_too(self):
        preloaded = cleanfork.get_context(preload=["numpy.random"])
        numbers = [ask(numpy_numbers, context=preloaded) for _ in range(5)]
        self.assertEqual(len(set(numbers)), 5)


class AskedFor(NothingLeft):
    def asked(self, function, *arguments, **options):
        """The answer, the same by the context and by the process."""
        by_context = ask(function, *arguments, context=cleanfork.get_context(**options))
        self.assertEqual(ask(function, *arguments, **options), by_context)
        return by_context

    def test_a_process_has_the_last_word(self):
        of_context = cleanfork.get_context(nice=3, env={"A": "1", **os.environ})
        self.assertEqual(ask(os.nice, 0, context=of_context, nice=5), 5)
        self.assertEqual(ask(os.getenv, "A", context=of_context, nice=5), "1")

    def test_env(self):
        self.assertEqual(self.asked(environment, env={"ONLY": "this"})[0], {"ONLY": "this"})

    def test_cwd(self):
        with tempfile.TemporaryDirectory() as d:
            self.assertEqual(self.asked(os.getcwd, cwd=d), d)

    def test_fds(self):
        with tempfile.NamedTemporaryFile() as f:
            self.assertEqual(self.asked(link_of, 77, fds={77: f}), f.name)
            self.assertEqual(ask(link_of, 96, fds={50 + i: f for i in range(47)}), f.name)

    def test_stdin(self):
        with tempfile.TemporaryFile("w+") as f:
            f.write("from the file")
            for options in ({"stdin": f}, {"context": cleanfork.get_context(stdin=f)}):
                f.seek(0)
                self.assertEqual(ask(read_stdin, **options), "from the file")
        self.assertEqual(ask(read_stdin), "")

    def test_stdout_and_stderr(self):
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            self.asked(say, "heard", stdout=out, stderr=err)
            for f in (out, err):
                f.seek(0)
                self.assertEqual(f.read(), "heard\n" * 2)
            ask(say, "both", stdout=out, stderr=subprocess.STDOUT)
            out.seek(0)
            self.assertEqual(out.read(), "heard\n" * 2 + "both\n" * 2)

    def test_limits_priority_and_processors(self):
        cpu = min(os.sched_getaffinity(0))
        got = self.asked(attributes, rlimits={resource.RLIMIT_CORE: (0, 0)}, nice=7,
                         affinity=[cpu])
        self.assertEqual(got, ((0, 0), 7, {cpu}))

    def test_umask(self):
        self.assertEqual(self.asked(new_umask, umask=0o077), 0o077)

    def test_child_hook(self):
        of_context = cleanfork.get_context(child_hook=hook)
        self.assertEqual(ask(told_by_hook, context=of_context, name="me"), "me")
        titled = cleanfork.get_context(child_hook=set_name)
        self.assertEqual(ask(own_name, context=titled, name="my title"), "my title")

    def test_what_cannot_be_had_is_refused_at_start(self):
        with self.assertRaisesRegex(cleanfork.SpawnError, "chdir"):
            ctx.Process(target=say, cwd="/not/there").start()
        with self.assertRaisesRegex(TypeError, "no option colour"):
            cleanfork.get_context(colour="red")
        with self.assertRaises(TypeError):
            ctx.Process(target=say, colour="red")

    def test_an_option_is_not_for_the_children_of_a_process(self):
        self.assertEqual(ask(ask, os.nice, 0, nice=4), 4)  # inherited
        self.assertNotEqual(ask(ask, os.getcwd, cwd="/"), "")


if __name__ == "__main__":
    unittest.main()
