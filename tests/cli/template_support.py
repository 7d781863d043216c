"""What the tests of templates and calls share."""

import hashlib
import json
import os

from support import CLEANFORK, CommandTest

HELPERS = os.environ.get("CLEANFORK_TEST_HELPERS", os.path.dirname(CLEANFORK) + "/test-helpers")
PROGRAM = os.path.join(HELPERS, "template_program")


def sha256(content):
    return hashlib.sha256(content).hexdigest()


class TemplateTest(CommandTest):
    def setUp(self):
        self.server = self.serve()
        self.at = ("--socket", self.server.socket)

    def template(self, command, *args, **options):
        return self.cleanfork("template", command, *self.at, *args, **options)

    def add(self, name="t", *options, program=PROGRAM, args=()):
        done = self.template("add", name, *options, "--", program, *args)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done)
        return done.stdout

    def call(self, *args, **options):
        return self.cleanfork("call", *self.at, *args, **options)

    def answer(self, *args, **options):
        """The result of a call that has to succeed and to say nothing itself."""
        done = self.call(*args, **options)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done)
        return done.stdout

    def digest(self, *args, **options):
        """The same, of a result that is no text."""
        done = self.call(*args, encoding=None, errors=None, **options)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        return sha256(done.stdout)

    def told(self, name="t"):
        done = self.template("show", "--json", name)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return json.loads(done.stdout)

    def path(self, name, content=None):
        path = os.path.join(self.home, f"{self.id()}-{name}")
        if content is not None:
            with open(path, "wb") as file:
                file.write(content)
        return path
