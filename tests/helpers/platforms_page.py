"""The tables of docs/platforms.md, which the subcommands of ./dev write."""

import os
import re

PAGE = os.path.abspath(os.path.join(os.path.dirname(__file__), "../../docs/platforms.md"))


def by_version(first):
    return [int(part) for part in re.findall(r"\d+", first)], first


def update(name, columns, rows, order=by_version, heading="", points=(), page=PAGE):
    """Puts rows, lists of cells, into the table of ./dev NAME, by their first cells.

    Rows that this run has not made stay, unless they are of another number of columns; so do the
    points of the list below the table.
    """
    begin, end = f"<!-- ./dev {name}: begin -->\n", f"<!-- ./dev {name}: end -->"
    with open(page) as file:
        before, _, rest = file.read().partition(begin)
    old, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"{page} has no table of ./dev {name}")
    kept = {}
    for line in [line for line in old.splitlines() if line.startswith("| ")][1:]:
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) == len(columns):
            kept[cells[0]] = cells
    kept.update({row[0]: [cell.replace("|", "/") for cell in row] for row in rows})
    points = sorted({*re.findall(r"^- (.*)$", old, re.M), *points})
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns),
             *(f"| {' | '.join(kept[of])} |" for of in sorted(kept, key=order)),
             *((["", heading, ""] if points else [])), *(f"- {point}" for point in points)]
    with open(page, "w") as file:
        file.write(before + begin + "\n".join(lines) + "\n" + end + after)
