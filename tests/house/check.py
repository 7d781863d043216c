"""Whether the tree is as docs/design.md and CONTRIBUTING.md say: check.py [ROOT]

Names file and line of each include that goes against the arrows of rooms.py, of each circle
of includes or imports, of what is too long, of two files of one name, and of text that is too
wide or names a file that is not there.
"""

import os
import sys

import circles
import names
import prose
import rooms
import sizes
from tree import Tree


def complaints(root):
    tree = Tree(root)
    return [line for check in (rooms, circles, sizes, names, prose) for line in check.check(tree)]


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "../..")
    found = complaints(os.path.abspath(root))
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
