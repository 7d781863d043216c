"""The tables of docs/platforms.md, which the subcommands of ./dev write, and the README's words.

platforms_page.py: writes the latter anew, as each run does.
"""

import os
import re
import textwrap

TREE = os.path.abspath(os.path.join(os.path.dirname(__file__), "../.."))
PAGE = f"{TREE}/docs/platforms.md"
README = f"{TREE}/README.md"
# What the README says of a table: the words before the names of what passed, the column that
# tells how many failed, and how much of a row's first cell is its name there.
SAID = {
    "matrix": ("The Python package's tests passed with Python", "own tests",
               r"(\d+\.\d+)\S*( free-threaded)?"),
    "wheels": ("from its wheels alone with", "tests in the empty root",
               r"(\d+\.\d+)\S*( free-threaded)?"),
    "root": ("`./dev demo` and `./dev test` passed on", "`./dev test`", r"(Debian \w+)"),
    "kernels": ("what is chosen for kernels passed on", "test cases",
                r"(Linux \d+\.\d+|docker|gvisor)"),
}


def by_version(first):
    return [int(part) for part in re.findall(r"\d+", first)], first


def cells_of(line):
    return [cell.strip() for cell in line.split("|")[1:-1]]


def parted(text, begin, end, where):
    """(what is before, between and after two lines)"""
    before, found, rest = text.partition(f"{begin}\n")
    inside, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{where} has no {begin}")
    return before + found, inside, closed + after


def parts_of(name, page):
    """The page before the table of ./dev NAME, the table, and the page after it."""
    with open(page) as file:
        return parted(file.read(), f"<!-- ./dev {name}: begin -->", f"<!-- ./dev {name}: end -->",
                      page)


def rows_of(table):
    """[{column: cell}] of the lines of a table."""
    columns, *rows = [cells_of(line) for line in table.splitlines() if line.startswith("| ")] or [[]]
    return [dict(zip(columns, cells)) for cells in rows]


def filled(text, indent="", further=""):
    """In lines that the check of the tree takes."""
    return textwrap.fill(text, 100, initial_indent=indent, subsequent_indent=further,
                         break_long_words=False, break_on_hyphens=False)


def points_of(text):
    """The points of the list below a table, each as one line."""
    return {" ".join(point.split()) for point in re.findall(r"^- (.*(?:\n  .*)*)$", text, re.M)}


def update(name, columns, rows, order=by_version, heading="", points=(), page=PAGE, readme=README):
    """Puts rows, lists of cells, into the table of ./dev NAME, by their first cells.

    Rows that this run has not made stay, cell by cell under the columns that are still there; so do
    cells that are None, and the points of the list below the table. The README's words follow.
    """
    before, old, after = parts_of(name, page)
    kept = {cells[0]: cells for cells in
            ([row.get(column, "") for column in columns] for row in rows_of(old))}
    for row in rows:
        was = kept.get(row[0], [""] * len(row))
        kept[row[0]] = [old_cell if cell is None else cell.replace("|", "/")
                        for cell, old_cell in zip(row, was)]
    points = sorted(points_of(old) | set(points))
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns),
             *(f"| {' | '.join(kept[of])} |" for of in sorted(kept, key=order)),
             *((["", heading, ""] if points else [])), *(filled(point, "- ", "  ") for point in points)]
    with open(page, "w") as file:
        file.write(before + "\n".join(lines) + "\n" + after)
    say_in_readme(page, readme)


def enumerated(names):
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def passed_and_not(name, page):
    """Names of what passed, and of what did not with its result, each once."""
    _, result, pattern = SAID[name]
    failed, names = {}, []
    for row in rows_of(parts_of(name, page)[1]):
        found = re.match(pattern, next(iter(row.values())))
        if not found:  # an older kernel's filter: there is the kernel itself
            continue
        each = "".join(part or "" for part in found.groups())
        names.append(each)
        if "none failed" not in row[result]:
            failed[each] = row[result]
        elif "FAILED" in " ".join(row.values()):
            failed[each] = "see the table"
    return [each for each in dict.fromkeys(names) if each not in failed], failed


def words(page=PAGE):
    """What runs where, as the tables say."""
    sentences = []
    for pair in (("matrix", "wheels"), ("root", "kernels")):
        good, bad = [], []
        for name in pair:
            passed, failed = passed_and_not(name, page)
            if passed:
                good.append(f"{SAID[name][0]} {enumerated(passed)}")
            bad += [f"{each} ({result})" for each, result in failed.items()]
        said = "; ".join(good + ([f"not all did on {enumerated(bad)}"] if bad else []))
        if said:
            sentences.append(filled(f"{said[0].upper()}{said[1:]}."))
    return "\n".join(sentences) + "\n"


def said_in(readme):
    with open(readme) as file:
        return parted(file.read(), "<!-- of docs/platforms.md: begin -->",
                      "<!-- of docs/platforms.md: end -->", readme)


def say_in_readme(page=PAGE, readme=README):
    before, _, after = said_in(readme)
    with open(readme, "w") as file:
        file.write(before + words(page) + after)


if __name__ == "__main__":
    say_in_readme()
