"""Programs that gevent or eventlet has patched."""

import unittest

from support import run_python


class Greenlets(unittest.TestCase):
    """A program that gevent or eventlet has patched; here by modules that only say so."""

    PATCHED = """
import subprocess, sys, threading, types
def patch(name, module, function):
    sys.modules[module] = patcher = types.ModuleType(module)
    setattr(patcher, function, lambda what: what == "select")
kind = {"gevent": ("gevent.monkey", "is_module_patched"),
        "eventlet": ("eventlet.patcher", "is_monkey_patched")}[sys.argv[1]]
"""

    def test_is_refused_with_what_to_do(self):
        for name in ("gevent", "eventlet"):
            p = run_python(self.PATCHED + "import cleanfork.subprocess\npatch(sys.argv[1], *kind)\n"
                           "threading.Thread(target=lambda: print(cleanfork.subprocess.run(['true'])."
                           "returncode, flush=True)).start()\n"
                           "cleanfork.subprocess.run(['true'])", name)
            self.assertEqual((p.returncode, p.stdout), (1, "0\n"), p.stderr)
            self.assertIn(f"RuntimeError: this program is patched by {name}", p.stderr)
            p = run_python(self.PATCHED + "patch(sys.argv[1], *kind)\n"
                           "class Popen(subprocess.Popen): pass\nsubprocess.Popen = Popen\n"
                           "import cleanfork.subprocess", name)
            self.assertIn(f"ImportError: this program is patched by {name}", p.stderr)


if __name__ == "__main__":
    unittest.main()
