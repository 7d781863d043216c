"""python3 -m cleanfork enable: the start method "cleanfork" for programs that never import it.

A line in the environment's site-packages, which each interpreter of it runs as it starts: that
imports the package, which loads nothing until somebody asks multiprocessing for that name.
"""

from __future__ import annotations

import os
import site
import sys

from cleanfork._server import HOME

# The line outlives a package that is uninstalled, and must say nothing then.
_LINE = 'import sys; exec("try:\\n import cleanfork\\nexcept ModuleNotFoundError: pass")\n'


def _path() -> str:
    beside = os.path.dirname(HOME)
    directories = [*site.getsitepackages(), site.getusersitepackages()]
    if not any(os.path.isdir(each) and os.path.samefile(each, beside) for each in directories):
        sys.exit(f"cleanfork: this package is in {beside}, from where no interpreter takes what is "
                 f"to be done as it starts: install it with pip for {sys.executable}")
    return os.path.join(beside, "cleanfork-enabled.pth")


def enable() -> None:
    path = _path()
    try:
        with open(path, "w") as file:
            file.write(_LINE)
    except OSError as e:
        sys.exit(f"cleanfork: cannot write {path}: {e.strerror}")
    print(f"{path}: from now on get_context('cleanfork') of multiprocessing needs no import of "
          "cleanfork; to undo it: python3 -m cleanfork disable")


def disable() -> None:
    path = _path()
    try:
        os.unlink(path)
    except FileNotFoundError:
        sys.exit(f"cleanfork: it was not enabled: there is no {path}")
    except OSError as e:
        sys.exit(f"cleanfork: cannot remove {path}: {e.strerror}")
    print(f"{path} is gone: programs that want the start method import cleanfork")
