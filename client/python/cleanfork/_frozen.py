"""Programs that PyInstaller or its like made one file of: their template is that file again."""

from __future__ import annotations

import sys

# What a template is started with, in place of the words of the program.
WORD = "--cleanfork-template"


def is_frozen() -> bool:
    return bool(getattr(sys, "frozen", False))


def was_asked() -> bool:
    """This is to be a template, and is not yet."""
    return is_frozen() and sys.argv[1:2] == [WORD]
