"""Words and values are opaque bytes: what is typed arrives, whatever it looks like."""

import os
import random
import subprocess
import unittest

from support import CLEANFORK, DEADLINE
from template_support import PROGRAM, TemplateTest

# What an option library may take for a list, an empty value, a separator, a quote or an option.
ODD = (b"[1,2]", b"[]", b"[", b"]", b"{}", b"%%", b"a,b", b'"x"', b"'x'", b"`x`", b"\\n", b"", b"-",
       b"--", b"--help", b"-h", b"-1", b"-x=y", b"--json", b"x[0]", b"\xff\xfe", b"\n", b" ", b"#",
       b"=", b"@file", b"/x", b"++", b"[[", b"]]", b'R"(x)"', b"true", b"\x01")


def some_words(chance):
    def word():
        if chance.random() < 0.5:
            return chance.choice(ODD)
        return bytes(chance.choice((chance.randrange(1, 256), *b"[],{}-\"'\\="))
                     for _ in range(chance.randrange(8)))
    return [word() for _ in range(chance.randrange(1, 12))]


class OpaqueArguments(TemplateTest):
    def bytes_of(self, *args, code=0):
        done = subprocess.run([CLEANFORK, *args], env=self.environment, stdin=subprocess.DEVNULL,
                              capture_output=True, timeout=DEADLINE, check=False)
        self.assertEqual((done.returncode, done.stderr), (code, b""), args)
        return done.stdout

    def lists_of_words(self):
        yield list(ODD)
        for seed in range(12):
            yield some_words(random.Random(seed))

    def test_words_of_a_spawned_command_arrive_as_they_are(self):
        for words in self.lists_of_words():
            with self.subTest(words):
                want = b"".join(b"<%s>" % w for w in words)
                for end in ((), ("--",)):
                    got = self.bytes_of("spawn", *self.at, *end, "/bin/sh", "-c",
                                        'printf "<%s>" "$@"', "sh", *words)
                    self.assertEqual(got, want)

    def test_words_of_a_call_arrive_as_they_are(self):
        self.add()
        for words in self.lists_of_words():
            with self.subTest(words):
                got = self.bytes_of("call", *self.at, "t", "args", "--", *words)
                self.assertEqual(got, b"".join(w + b"\n" for w in words))

    def test_words_of_a_templates_program_arrive_as_they_are(self):
        for number, words in enumerate(self.lists_of_words()):
            with self.subTest(words):
                self.bytes_of("template", "add", f"w{number}", "--no-wait", *self.at, PROGRAM, *words)
                self.call(f"w{number}", "args")  # waits until it is there
                pid = self.told(f"w{number}")["generations"][0]["pid"]
                with open(f"/proc/{pid}/cmdline", "rb") as cmdline:
                    self.assertEqual(cmdline.read().split(b"\0")[1:-1], words)

    def test_values_of_options_arrive_as_they_are(self):
        for value in ODD:
            with self.subTest(value):
                got = self.bytes_of("spawn", *self.at, "-E", b"A=" + value, "-E", b"B=1",
                                    "-a", value, "/bin/sh", "-c", 'printf "%s.%s.%s" "$A" "$B" x')
                self.assertEqual(got, value + b".1.x")
                got = self.bytes_of("spawn", *self.at, b"-a" + (value or b"x"), "/bin/cat",
                                    "/proc/self/cmdline")
                self.assertEqual(got.split(b"\0")[0], value or b"x")
                self.assertEqual(self.bytes_of("spawn", *self.at, b"--argv0=" + value, "/bin/cat",
                                               "/proc/self/cmdline").split(b"\0")[0], value)

    def test_names_and_directories_are_opaque_too(self):
        self.add("[a,b]")
        self.assertEqual(self.bytes_of("call", *self.at, "[a,b]", "args", "{}"), b"{}\n")
        directory = os.path.join(self.home, "[d,e]")
        os.mkdir(directory)
        self.assertEqual(self.bytes_of("spawn", *self.at, "-C", directory, "pwd"),
                         directory.encode() + b"\n")


if __name__ == "__main__":
    unittest.main()
