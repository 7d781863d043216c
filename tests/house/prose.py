"""Text of README and docs is wrapped at 100 columns; tables, code and long links may be wider.
And each file that the text names in backticks is there."""

import os
import re

WIDTH = 100
FREE = re.compile(r"\s*\||    |\t|<|!\[|\[[^\]]+\]: ")
NAMED = re.compile(r"`((?:ipc|forkserver|client|tests|docs)/[\w./]*\.(?:[ch]pp|py|proto|map))`")


def texts(root):
    for folder, _, files in os.walk(os.path.join(root, "docs")):
        yield from (os.path.join(folder, name) for name in files if name.endswith(".md"))
    yield from (os.path.join(root, name) for name in sorted(os.listdir(root))
                if name.endswith(".md"))


def check(tree):
    for path in sorted(texts(tree.root)):
        name, code = os.path.relpath(path, tree.root), False
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
        for number, line in enumerate(lines, 1):
            code ^= line.lstrip().startswith("```")
            for named in NAMED.findall(line):
                if not os.path.exists(os.path.join(tree.root, named)):
                    yield f"{name}:{number}: there is no {named}"
            if len(line) > WIDTH and " " in line.strip() and not code and not FREE.match(line):
                yield f"{name}:{number}: {len(line)} columns, not at most {WIDTH}"
