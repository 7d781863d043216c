"""Files of at most 400 lines, functions of at most 60; tables may be longer."""

import ast
import re

FILE, FUNCTION = 400, 60
# A word of a block's head that says it is no function but has some in it.
CONTAINER = re.compile(r"\b(namespace|class|struct|union|enum)\b|\bextern\s*$")
# What is left when what cannot have a brace that counts is blanked.
NOT_CODE = re.compile(r'//[^\n]*|/\*.*?\*/|R"([^(\s]*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|'
                      r"(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'", re.S)


def blanked(text):
    return NOT_CODE.sub(lambda m: "".join(c if c == "\n" else " " for c in m[0]), text)


def cpp_functions(lines):
    """(first line, last line, lines of its largest table) of each function."""
    text = blanked("\n".join("" if line.lstrip().startswith("#") else line for line in lines))
    stack, head_at, line, table = [], 0, 1, 0  # of blocks: (kind, line)
    for at, c in enumerate(text):
        if c == "\n":
            line += 1
        elif c == "{":
            head = text[head_at:at]
            outer = all(kind == "container" for kind, _ in stack)
            kind = kind_outside(head) if outer else kind_inside(head)
            stack.append((kind, line - head.lstrip().count("\n")))
        elif c == "}" and stack:
            kind, start = stack.pop()
            if kind == "table":
                table = max(table, line - start + 1)
            elif kind == "function":
                yield start, line, table
            if kind in ("function", "container"):
                table = 0
        if c in "{};":
            head_at = at + 1


def kind_outside(head):
    # Angle brackets and parentheses may have any word in them.
    plain = re.sub(r"\([^()]*\)", "()", re.sub(r"<[^<>]*>", "", head))
    if CONTAINER.search(plain) and "()" not in plain:
        return "container"
    return "function" if "(" in plain and not re.search(r"=\s*$", plain) else "table"


def kind_inside(head):
    """A table in a function: a value of many rows, or a switch over the cases of one thing."""
    return "table" if re.search(r"(\breturn|=)\s*$|\bswitch\s*\(", head) else "inner"


def python_functions(lines):
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.lineno, node.end_lineno, 0


def check(tree):
    for path, lines in tree.files.items():
        if len(lines) > FILE:
            yield f"{path}:{FILE + 1}: has {len(lines)} lines, not at most {FILE}"
        functions = python_functions if path.endswith(".py") else \
            cpp_functions if path.endswith((".cpp", ".hpp")) else lambda _: ()
        for first, last, table in functions(lines):
            length = last - first + 1
            if length - table > FUNCTION:
                yield f"{path}:{first}: a function of {length} lines, not at most {FUNCTION}"
