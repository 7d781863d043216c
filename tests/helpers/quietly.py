"""How the scripts behind ./dev run other programs, and how they give up."""

import os
import subprocess
import sys

# tests/NAME/script.py is what ./dev NAME runs.
NAME = os.path.basename(os.path.dirname(os.path.abspath(sys.argv[0])))


def give_up(words):
    sys.exit(f"{NAME}: {words}")


def quietly(*command, **options):
    """What it writes to standard output; all that it writes is shown only when it fails."""
    p = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                       stdin=subprocess.DEVNULL, **options)
    if p.returncode != 0:
        give_up(f"{' '.join(command)} failed\n{p.stdout}{p.stderr}")
    return p.stdout
