"""Tables of docs/python.md, each row of which has tests that hold what it says."""

import importlib
import os

DOCS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/python.md")


def rows(header):
    """The first cells of the table that begins with this line."""
    with open(DOCS) as file:
        lines = file.read().splitlines()
    begin = lines.index(header) + 2
    for line in lines[begin:]:
        if not line.startswith("|"):
            return
        yield line.split("|")[1].strip()


def check(test, header, held_by):
    """`held_by`: {row: tests}, each of the class of `test`, or "module.Class.test"."""
    test.assertEqual(sorted(rows(header)), sorted(held_by))
    for row, names in held_by.items():
        test.assertTrue(names, row)
        for name in names:
            where, _, function = name.rpartition(".")
            holder = type(test)
            if where:
                module, _, kind = where.rpartition(".")
                holder = getattr(importlib.import_module(module), kind)
            test.assertTrue(callable(getattr(holder, function, None)), f"{row}: no {name}")
