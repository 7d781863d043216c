"""No two files of the product have one name for different things."""

import os

from tree import PUBLIC

PRODUCT = ("ipc/", "forkserver/", "client/")
EXCEPT = ("main", "__init__", "__main__")


def thing_of(path):
    """Where the thing is that the file is about: a header and its .cpp are about one, and so
    is a public header and the .cpp of the same part."""
    for public in PUBLIC:
        if path.startswith(public + "/"):
            return os.path.dirname(public)
    return os.path.dirname(path)


def check(tree):
    seen = {}
    for path in sorted(tree.files):
        stem, extension = os.path.splitext(os.path.basename(path))
        if not path.startswith(PRODUCT) or stem in EXCEPT:
            continue
        python = extension == ".py"
        others = seen.setdefault((python, stem), [])
        thing = thing_of(path)
        if other := next((each for each in others if not same(thing, thing_of(each))), None):
            yield f"{path}:1: has the name of {other}"
        others.append(path)


def same(one, other):
    """In the same folder, or the source of a public header: client/src of client."""
    longer, shorter = max(one, other, key=len), min(one, other, key=len)
    return longer == shorter or longer == shorter + "/src"
