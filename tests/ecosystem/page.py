"""The table of docs/ecosystem.md: one row for each program, written by its run."""

import os
import tomllib

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
PAGE = f"{ROOT}/docs/ecosystem.md"
BEGIN, END = "<!-- rows -->\n", "<!-- end of rows -->\n"


def write_if_other(path, text):
    try:
        with open(path) as file:
            if file.read() == text:
                return
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)


def entry_points():
    """Those of pyproject.toml, as an installed package has them."""
    with open(f"{ROOT}/pyproject.toml", "rb") as file:
        groups = tomllib.load(file)["project"].get("entry-points", {})
    return "".join(f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in entries.items())
                   for group, entries in groups.items())


def _seconds(value):
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.0f} ms"


def _cell(told, write):
    """Of each method, the last one being ours."""
    return ", ".join(f"{'**' if method == 'cleanfork' else ''}{method} {write(figures)}"
                     f"{'**' if method == 'cleanfork' else ''}"
                     for method, figures in told.items())


def row_of(row, version, told):
    start = _cell(told, lambda f: _seconds(f["start"]))
    memory = _cell(told, lambda f: f"{f['memory'] / 2**20:.0f} MiB")
    if not all(figures["memory"] for figures in told.values()):
        memory = "not measured"
    different = row.different.format(**told)
    return (f"| <!-- {row.name} --> {row.title} | {version} | {row.line} | {row.what}{start} | "
            f"{memory} | {different} |\n")


def write(names, row, version, told):
    with open(PAGE) as file:
        before, begin, rest = file.read().partition(BEGIN)
        table, end, after = rest.partition(END)
    rows = {line.split("<!-- ")[1].split(" -->")[0]: line
            for line in table.splitlines(keepends=True) if "| <!-- " in line}
    rows[row.name] = row_of(row, version, told)
    body = "".join(rows[name] for name in names if name in rows)
    head = ("| program | version | the line | start | memory (PSS) of all its processes | "
            "what is different |\n|---|---|---|---|---|---|\n")
    with open(PAGE, "w") as file:
        file.write(before + begin + head + body + end + after)
