"""The manual: what ./dev manual made is what --help says now, and man finds nothing wrong."""

import os
import re
import shutil
import subprocess
import sys
import unittest

from support import CLEANFORK, DEADLINE

TREE = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
MAKE = os.path.join(TREE, "client/packaging/manual/make.py")
MAN = os.path.join(TREE, "docs/man")


def pages():
    return sorted(os.path.join(MAN, name) for name in os.listdir(MAN))


class Manual(unittest.TestCase):
    def test_pages_and_completions_are_what_help_says(self):
        done = subprocess.run([sys.executable, "-B", MAKE, os.path.dirname(CLEANFORK), "--check"],
                              capture_output=True, text=True, timeout=DEADLINE, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_the_page_that_is_written_by_hand_has_each_option_and_no_other(self):
        sys.path.insert(0, os.path.dirname(MAKE))
        sys.dont_write_bytecode = True
        import help_text
        known = {name for c in help_text.commands(CLEANFORK) for o in c.options for name in o.names}
        with open(f"{MAN}/cleanfork.1", encoding="utf-8") as file:
            text = file.read().replace("\\-", "-").replace("\\fB", "").replace("\\fR", "")
        told = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text))
        others = {"--help", "--version", "--", "--json-status-fd"}
        # Of other programs, which the page speaks of.
        elsewhere = {"--kill", "--preserve-status", "--foreground", "--max-children",
                     "--user-unit", "--log-level", "--config"}
        self.assertEqual(sorted(n for n in known - told if n[:2] == "--" and n not in others), [])
        self.assertEqual(sorted(told - known - others - elsewhere), [])

    @unittest.skipUnless(shutil.which("man"), "there is no man")
    def test_man_finds_nothing_wrong(self):
        for page in pages():
            done = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                  env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8",
                                       "MANROFFSEQ": "", "MANWIDTH": "90"},
                                  timeout=DEADLINE, check=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""), page)

    def test_each_page_has_its_name_and_says_what_it_is(self):
        for page in pages():
            with open(page, encoding="utf-8") as file:
                text = file.read()
            name = os.path.basename(page).rsplit(".", 1)[0]
            self.assertRegex(text.replace("\\-", "-"), rf"\.SH NAME\n{re.escape(name)} - ", page)


if __name__ == "__main__":
    unittest.main()
