"""Each behaviour by both modules, for the same call: runs, output, text, arguments."""

import os
import pathlib
import sys
import tempfile
import unittest

from support import DEADLINE, SameAsStandard

PIPE, STDOUT, DEVNULL = -1, -2, -3
SH = "/bin/sh"


def finished(p):
    """What is the same in the results of both modules."""
    return p.args, p.returncode, p.stdout, p.stderr


class Run(SameAsStandard):
    def test_exit_code(self):
        for code in (0, 1, 2, 127, 255):
            self.same_result(lambda m: finished(m.run([SH, "-c", f"exit {code}"])))

    def test_death_by_signal_is_negative(self):
        for name in ("TERM", "KILL", "SEGV", "USR1"):
            result = self.same_result(lambda m: m.run([SH, "-c", f"kill -{name} $$"]).returncode)
            self.assertLess(result, 0)

    def test_capture_output(self):
        self.same_result(
            lambda m: finished(m.run([SH, "-c", "echo out; echo err >&2"], capture_output=True)))

    def test_stderr_to_stdout(self):
        self.same_result(lambda m: finished(
            m.run([SH, "-c", "echo out; echo err >&2"], stdout=PIPE, stderr=STDOUT)))

    def test_stderr_to_own_stdout(self):
        code = ("import sys, importlib; m = importlib.import_module(sys.argv[1]);"
                "m.run(['sh', '-c', 'echo err >&2'], stderr=m.STDOUT)")
        self.same_result(lambda m: finished_without_args(
            m.run([sys.executable, "-c", code, m.__name__], stdout=PIPE)))

    def test_devnull(self):
        self.same_result(lambda m: finished(
            m.run(["cat"], stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL)))
        self.same_result(lambda m: finished(
            m.run(["readlink", "/proc/self/fd/0"], stdin=DEVNULL, stdout=PIPE)))

    def test_input(self):
        self.same_result(lambda m: finished(m.run(["sort"], input=b"b\na\n", stdout=PIPE)))

    def test_empty_input(self):
        self.same_result(lambda m: finished(m.run(["cat"], input=b"", stdout=PIPE)))

    def test_large_input_and_output(self):
        data = os.urandom(1 << 20)
        self.same_result(lambda m: m.run(["cat"], input=data, stdout=PIPE).stdout == data)

    def test_input_and_stdin(self):
        self.same_error(ValueError, lambda m: m.run(["cat"], input=b"", stdin=PIPE))

    def test_capture_and_stdout(self):
        self.same_error(ValueError, lambda m: m.run(["cat"], capture_output=True, stdout=PIPE))

    def test_broken_pipe_of_input_is_ignored(self):
        self.same_result(lambda m: finished(m.run(["true"], input=b"x" * 300000)))

    def test_check(self):
        self.same_error(Exception, lambda m: m.run([SH, "-c", "echo o; exit 3"],
                                                   check=True, stdout=PIPE))
        self.same_error(Exception, lambda m: m.run([SH, "-c", "kill $$"], check=True))

    def test_timeout(self):
        self.same_error(Exception, lambda m: m.run(["sleep", "infinity"], timeout=0.05))

    def test_timeout_has_the_output_so_far(self):
        def call(m):
            timeout = 0.1
            while True:
                try:
                    m.run([SH, "-c", "echo early; exec sleep infinity"], stdout=PIPE,
                          timeout=timeout)
                except m.TimeoutExpired as e:
                    if e.output or timeout > DEADLINE:
                        e.timeout = "so long"
                        raise
                    timeout *= 2
        self.same_error(Exception, call)

    def test_timeout_that_is_long_enough(self):
        self.same_result(lambda m: finished(m.run(["true"], timeout=DEADLINE)))

    def test_file_as_stdout(self):
        def call(m):
            with tempfile.TemporaryFile() as f:
                f.write(b"before ")
                f.flush()
                m.run(["echo", "after"], stdout=f)
                f.seek(0)
                return f.read()
        self.assertEqual(self.same_result(call), b"before after\n")

    def test_file_as_stdin(self):
        def call(m):
            with tempfile.TemporaryFile() as f:
                f.write(b"content")
                f.seek(0)
                return m.run(["cat"], stdin=f, stdout=PIPE).stdout
        self.assertEqual(self.same_result(call), b"content")

    def test_descriptor_number_as_stdout(self):
        def call(m):
            r, w = os.pipe()
            try:
                m.run(["echo", "x"], stdout=w)
                return os.read(r, 10)
            finally:
                os.close(r)
                os.close(w)
        self.same_result(call)

    def test_what_is_no_file_as_stdout(self):
        self.same_error(AttributeError, lambda m: m.run(["true"], stdout="name"))

    def test_completed_process_is_the_standard_class(self):
        import subprocess
        self.same_result(lambda m: type(m.run(["true"])) is subprocess.CompletedProcess)
        self.same_result(lambda m: repr(m.run(["echo", "x"], capture_output=True)))


def finished_without_args(p):
    return p.returncode, p.stdout, p.stderr


class Calls(SameAsStandard):
    def test_call(self):
        self.same_result(lambda m: m.call([SH, "-c", "exit 5"]))

    def test_call_timeout(self):
        self.same_error(Exception, lambda m: m.call(["sleep", "infinity"], timeout=0.05))

    def test_check_call(self):
        self.same_result(lambda m: m.check_call(["true"]))
        self.same_error(Exception, lambda m: m.check_call(["false"]))
        self.same_error(Exception, lambda m: m.check_call(args=["false"]))

    def test_check_output(self):
        self.same_result(lambda m: m.check_output(["echo", "x"]))
        self.same_error(Exception, lambda m: m.check_output([SH, "-c", "echo x; exit 2"]))

    def test_check_output_refuses_stdout(self):
        self.same_error(ValueError, lambda m: m.check_output(["true"], stdout=PIPE))

    def test_check_output_with_input(self):
        self.same_result(lambda m: m.check_output(["cat"], input="abc", text=True))
        self.same_result(lambda m: m.check_output(["cat"], input=None, text=True))

    def test_getoutput(self):
        self.same_result(lambda m: m.getoutput("echo a; echo b >&2"))
        self.same_result(lambda m: m.getoutput("printf 'x\\n\\n'"))

    def test_getstatusoutput(self):
        for command in ("true", "exit 7", "kill $$", "/nonexistent/program"):
            self.same_result(lambda m: m.getstatusoutput(command))

    @unittest.skipIf(sys.version_info < (3, 11), "encoding of getoutput() is of Python 3.11 on")
    def test_encoding_of_getoutput(self):
        self.same_result(lambda m: m.getoutput("printf '\\344'", encoding="latin-1"))


class Text(SameAsStandard):
    def test_text(self):
        self.same_result(lambda m: finished(m.run(["cat"], input="ä\n", text=True, stdout=PIPE)))

    def test_universal_newlines(self):
        self.same_result(lambda m: finished(
            m.run(["printf", "a\\r\\nb\\rc\\n"], universal_newlines=True, stdout=PIPE)))

    def test_encoding(self):
        self.same_result(lambda m: finished(
            m.run(["cat"], input="ä", encoding="utf-16", stdout=PIPE)))

    def test_errors(self):
        self.same_result(lambda m: finished(
            m.run(["printf", "\\377x"], encoding="ascii", errors="replace", stdout=PIPE)))
        self.same_error(UnicodeDecodeError, lambda m: m.run(
            ["printf", "\\377"], encoding="utf-8", stdout=PIPE))

    def test_text_and_universal_newlines_that_differ(self):
        self.same_error(Exception, lambda m: m.run(["true"], text=True, universal_newlines=False))

    def test_bytes_as_input_of_text(self):
        self.same_error(Exception, lambda m: m.run(["cat"], input=b"x", text=True, stdout=PIPE,
                                                   timeout=DEADLINE))

    def test_line_buffered_text(self):
        def call(m):
            with m.Popen(["cat"], stdin=PIPE, stdout=PIPE, text=True, bufsize=1) as p:
                p.stdin.write("line\n")
                return p.stdout.readline(), p.stdin.line_buffering, p.text_mode
        self.same_result(call)

    def test_unbuffered(self):
        def call(m):
            with m.Popen(["cat"], stdin=PIPE, stdout=PIPE, bufsize=0) as p:
                p.stdin.write(b"x")
                return p.stdout.read(1), type(p.stdin), type(p.stdout)
        self.same_result(call)

    def test_bufsize_that_is_no_number(self):
        self.same_error(TypeError, lambda m: m.Popen(["true"], bufsize="orange"))


class Arguments(SameAsStandard):
    def test_string_is_the_program(self):
        self.same_result(lambda m: finished(m.run("true")))
        self.same_error(FileNotFoundError, lambda m: m.run("echo a"))

    def test_path_and_bytes(self):
        self.same_result(lambda m: finished(m.run(pathlib.Path("/bin/true"))))
        self.same_result(lambda m: finished(m.run(b"/bin/true")))
        self.same_result(lambda m: finished(
            m.run([b"echo", pathlib.Path("/x"), "\udcff"], stdout=PIPE)))

    def test_tuple_and_iterator(self):
        self.same_result(lambda m: finished(m.run(("echo", "x"), stdout=PIPE)))
        self.same_result(lambda m: m.run(iter(["echo", "x"]), stdout=PIPE).stdout)

    def test_empty_arguments(self):
        self.same_result(lambda m: finished(m.run(["printf", "%s|", "", "a", ""], stdout=PIPE)))

    def test_no_words(self):
        self.same_error(IndexError, lambda m: m.run([]))

    def test_empty_program(self):
        self.same_error(PermissionError, lambda m: m.run([""]))

    def test_word_that_is_no_string(self):
        self.same_error(TypeError, lambda m: m.run(["echo", 1]))

    def test_nul(self):
        self.same_error(ValueError, lambda m: m.run(["echo", "a\0b"]))
        self.same_error(ValueError, lambda m: m.run(["ec\0ho"]))
        self.same_error(ValueError, lambda m: m.run(["echo"], cwd="a\0b"))
        self.same_error(ValueError, lambda m: m.run(["echo"], env={"A": "a\0b"}))

    def test_executable(self):
        self.same_result(lambda m: finished(
            m.run(["name", "-c", "echo $0"], executable=SH, stdout=PIPE)))
        self.same_error(FileNotFoundError, lambda m: m.run(["true"], executable="/no/such"))

    def test_executable_without_words(self):
        self.same_result(lambda m: finished(m.run([], executable="/bin/true")))

    def test_shell(self):
        self.same_result(lambda m: finished(m.run("echo $0 $((1+1))", shell=True, stdout=PIPE)))
        self.same_result(lambda m: finished(
            m.run(["echo $0 $1", "zero", "one"], shell=True, stdout=PIPE)))
        self.same_result(lambda m: finished(
            m.run("echo $0", shell=True, executable="/bin/bash", stdout=PIPE)))

    def test_path_as_shell_command(self):
        self.same_error(TypeError, lambda m: m.run(pathlib.Path("x"), shell=True))

    def test_many_words(self):
        words = ["x"] * 60000
        self.same_result(lambda m: m.run(["true", *words]).returncode)

    def test_words_too_long(self):
        self.same_error(OSError, lambda m: m.run(["true", "x" * (1 << 18)]))

    def test_unknown_keyword(self):
        self.same_error(TypeError, lambda m: m.run(["true"], nonsense=1))


if __name__ == "__main__":
    unittest.main()
