"""Overviews of the C++ and Python interfaces: what the headers and modules say of themselves."""

import ast
import os

from pages import escape, heading

HEADERS = ("client/include/cleanfork", "forkserver/template/include/cleanfork",
           "ipc/base/include/cleanfork")


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def block(text):
    """Text with examples, which are set off by four blanks, as they are."""
    lines, code = [], False
    for line in text.strip("\n").splitlines():
        is_code = line.startswith("    ")
        if is_code != code and (line.strip() or not code):
            lines.append(".nf" if is_code else ".fi")
            code = is_code
        lines.append(escape(line) if line.strip() else ("" if code else ".PP"))
    if code:
        lines.append(".fi")
    # A paragraph of its own follows a macro in any case.
    return [line for i, line in enumerate(lines)
            if line != ".PP" or (i + 1 < len(lines) and lines[i + 1] not in (".nf", ".PP"))]


def head_of(path):
    """The comment that a header begins with."""
    lines = []
    for line in read(path).splitlines():
        if not line.startswith("//"):
            break
        lines.append(line[3:] if line.startswith("// ") else line[2:])
    return "\n".join(lines)


def of_headers(tree, version):
    lines = heading("cleanfork", 3, version, "Library Functions Manual")
    lines += [".SH NAME", "cleanfork \\- C++ library for processes from a clean forkserver",
              ".SH SYNOPSIS", ".nf", "#include <cleanfork/client.hpp>", "",
              "c++ \\-std=c++20 program.cpp $(pkg\\-config \\-\\-cflags \\-\\-libs cleanfork)",
              ".fi", ".SH DESCRIPTION",
              "Each header says at its beginning what it is for, and at each function what it does,",
              "what it owns and how it fails."]
    for folder in HEADERS:
        for name in sorted(os.listdir(f"{tree}/{folder}")):
            if name.endswith(".hpp"):
                lines += [f".SS <cleanfork/{name}>", *block(head_of(f"{tree}/{folder}/{name}"))]
    lines += [".SH SEE ALSO", ".BR cleanfork (1),", ".BR cleanfork.py (3),", ".BR cleanforkd (8)"]
    return "\n".join(lines) + "\n"


def of_package(tree, version):
    folder = f"{tree}/client/python/cleanfork"
    lines = heading("cleanfork.py", 3, version, "Library Functions Manual")
    lines += [".SH NAME", "cleanfork.py \\- the Python package cleanfork",
              ".SH DESCRIPTION", *block(document(f"{folder}/__init__.py"))]
    for name in sorted(os.listdir(folder)):
        if name.endswith(".py") and not name.startswith("_"):
            lines += [f".SS cleanfork.{name[:-3]}", *block(document(f"{folder}/{name}"))]
    lines += [".SH SEE ALSO", ".BR cleanfork (1),", ".BR cleanfork (3),", ".BR cleanforkd (8)"]
    return "\n".join(lines) + "\n"


def document(path):
    return ast.get_docstring(ast.parse(read(path))) or ""
