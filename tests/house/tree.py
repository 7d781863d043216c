"""The files of a tree, what the C++ ones include and what the Python ones import."""

import ast
import os
import re

TOPS = ("ipc", "forkserver", "client", "tests", "docs")
# Where <cleanfork/...> is, which is what gets installed.
PUBLIC = ("ipc/base/include", "forkserver/template/include", "client/include")
PACKAGE = "client/python"  # the folder of the package cleanfork
INCLUDE = re.compile(r'\s*#\s*include\s*(?:"([^"]+)"|<(cleanfork/[^>]+)>)')


class Tree:
    def __init__(self, root):
        self.root = root
        self.files = {}  # by path from the root: the lines
        for top in TOPS:
            for folder, folders, files in os.walk(os.path.join(root, top)):
                folders[:] = sorted(set(folders) - {"build", "__pycache__"})
                for name in sorted(files):
                    if name.endswith((".cpp", ".hpp", ".py")):
                        self.add(os.path.relpath(os.path.join(folder, name), root))
        if os.path.exists(os.path.join(root, "dev")):
            self.add("dev")

    def add(self, path):
        with open(os.path.join(self.root, path), encoding="utf-8") as file:
            self.files[path] = file.read().splitlines()

    def of(self, *ends):
        return [path for path in self.files if path.endswith(ends)]

    def included(self, path, quoted, public):
        """The path of what is included, if it is in the tree."""
        candidates = [f"{folder}/{public}" for folder in PUBLIC] if public else [
            quoted, os.path.normpath(os.path.join(os.path.dirname(path), quoted))]
        return next((each for each in candidates if each in self.files), None)

    def includes(self, path):
        """(line number, path) of what a file includes from the tree."""
        for number, line in enumerate(self.files[path], 1):
            if match := INCLUDE.match(line):
                if found := self.included(path, match[1], match[2]):
                    yield number, found

    def modules(self):
        """The modules of the package by name, with their paths."""
        found = {}
        for path in self.files:
            if path.startswith(PACKAGE + "/cleanfork/") and path.endswith(".py"):
                name = path[len(PACKAGE) + 1:-len(".py")].replace("/", ".")
                found[name.removesuffix(".__init__")] = path
        return found

    def imports(self, module, modules):
        """(line number, module) of what a module of the package imports from it."""
        path = modules[module]
        package = module if path.endswith("/__init__.py") else module.rpartition(".")[0]
        for node in runtime_nodes(ast.parse("\n".join(self.files[path]))):
            for name in names_of(node, package, modules):
                if name in modules and name != module:
                    yield node.lineno, name


def is_for_types(node):
    return isinstance(node, ast.If) and ast.unparse(node.test) in (
        "TYPE_CHECKING", "typing.TYPE_CHECKING")


def runtime_nodes(node):
    """All below `node` but what only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if is_for_types(child):
            for other in child.orelse:
                yield other
                yield from runtime_nodes(other)
        else:
            yield child
            yield from runtime_nodes(child)


def names_of(node, package, modules):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    parent = package
    for _ in range(node.level - 1):
        parent = parent.rpartition(".")[0]
    base = ".".join(filter(None, [parent if node.level else "", node.module]))
    found = [f"{base}.{alias.name}" for alias in node.names]
    # What is no module itself is a name in the one before it.
    return [name if name in modules else base for name in found]
