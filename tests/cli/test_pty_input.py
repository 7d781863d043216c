"""What comes from a file or pipe through `cleanfork spawn --pty` is data: it arrives."""

import os
import unittest

from terminal_support import PtyTest

READS_ALL = ("/usr/bin/python3", "-S", "-c",
             "import os, sys\n"
             "data = b''\n"
             "while piece := os.read(0, 65536): data += piece\n"
             "print(data.hex())")
# Key by key, without a change of what keys mean: until an end-of-file character comes.
READS_KEYS = ("/usr/bin/python3", "-S", "-c",
              "import os, termios\n"
              "modes = termios.tcgetattr(0)\n"
              "modes[0] &= ~(termios.ICRNL | termios.IXON)\n"
              "modes[3] &= ~(termios.ICANON | termios.ISIG)\n"
              "termios.tcsetattr(0, termios.TCSADRAIN, modes)\n"
              "data = b''\n"
              "while not data.endswith(b'\\4'): data += os.read(0, 1)\n"
              "print(data.hex())")


class Data(PtyTest):
    def arrived(self, data, *command):
        return bytes.fromhex(self.output("-t", *(command or READS_ALL), input=data, encoding=None,
                                         errors=None, stderr_is=b"").decode())

    def test_lines_of_any_length_arrive_whole(self):
        for length in (4094, 4095, 4096, 4097, 6000, 8188, 8190, 200_000):
            for end in (b"", b"\n", b"\nand more"):
                with self.subTest(length=length, end=end):
                    data = b"a" * length + end
                    self.assertEqual(self.arrived(data), data)

    def test_every_byte_arrives(self):
        every = bytes(range(256))
        for data in (every, every * 40, b"\x03", b"\x04", b"a\x04\x04b\n\x04", b"\x13stop\x11", b"\x1a",
                     b"\r\n\r", b"\x16\x16\x03", b"\x7f\x15\x17\x12"):
            with self.subTest(data[:20]):
                self.assertEqual(self.arrived(data), data)

    def test_a_reader_of_single_bytes_gets_all_as_well(self):
        data = b"x" * 9000 + b"\n" + b"y" * 10
        code = ("import os\ndata = b''\nwhile byte := os.read(0, 1): data += byte\n"
                "print(data.hex())")
        self.assertEqual(self.arrived(data, "/usr/bin/python3", "-S", "-c", code), data)

    def test_one_who_reads_key_by_key_is_told_of_the_end_as_well(self):
        self.assertEqual(self.arrived(b"", *READS_KEYS).lstrip(b"\0"), b"\4")
        self.assertTrue(self.arrived(b"some keys", *READS_KEYS).startswith(b"some keys"))

    def test_a_shell_that_reads_its_lines_from_a_pipe_ends_with_it(self):
        environment = {**self.environment, "TERM": "dumb", "HISTFILE": "/dev/null"}
        for editing in ("--noediting", "-i"):
            done = self.spawn("-t", "bash", "--norc", "--noprofile", editing, "-i", env=environment,
                              input="echo the answer: $((6 * 7))\n")
            self.assertIn("the answer: 42", done.stdout)
            self.assertEqual(done.returncode, 0, done)

    def test_the_keys_of_a_terminal_stay_keys(self):
        terminal = self.terminal("spawn", "-t", "sh", "-c", "echo ready; exec cat")
        terminal.await_output(b"ready\r\n")
        terminal.type(b"wrong\x15right\r\x04")
        terminal.await_output(b"\r\nright\r\n")
        self.assertEqual(terminal.exit_code(), 0)


if __name__ == "__main__":
    unittest.main()
