"""Circles: of rooms, of includes between files, of imports in the Python package."""

import rooms


def circle(edges):
    """[(from, line, to), ...] of one circle in {from: [(line, to)]}; None when there is none."""
    done, path = set(), []  # path: (node, line of the edge that leaves it)

    def visit(node):
        nodes = [each for each, _ in path]
        if node in nodes:
            found = path[nodes.index(node):]
            ends = [each for each, _ in found[1:]] + [node]
            return [(each, line, end) for (each, line), end in zip(found, ends)]
        if node in done:
            return None
        for line, other in edges.get(node, ()):
            path.append((node, line))
            if found := visit(other):
                return found
            path.pop()
        done.add(node)
        return None

    for node in edges:
        if found := visit(node):
            return found
    return None


def all_circles(edges):
    """One after the other, each without its last edge from then on."""
    edges = {node: list(others) for node, others in edges.items()}
    while found := circle(edges):
        yield found
        node, line, other = found[-1]
        edges[node].remove((line, other))


def check(tree):
    if found := circle({room: [(1, each) for each in others] for room, others in
                        rooms.ROOMS.items()}):
        yield f"tests/house/rooms.py:1: circle of rooms: {' -> '.join(x for x, *_ in found)}"
    includes = {path: list(tree.includes(path)) for path in tree.of(".cpp", ".hpp")}
    for found in all_circles(includes):
        yield tell(found, "includes", {path: path for path in includes})
    modules = tree.modules()
    imports = {module: list(tree.imports(module, modules)) for module in modules}
    for found in all_circles(imports):
        yield tell(found, "imports", modules)


def tell(found, what, paths):
    steps = ", ".join(f"{paths[node]}:{line} {what} {other}" for node, line, other in found)
    node, line, _ = found[-1]
    return f"{paths[node]}:{line}: circle: {steps}"
