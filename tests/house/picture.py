"""Draws the rooms of rooms.py: prints docs/pictures/rooms.dot. `./dev pictures` has it drawn."""

from rooms import ROOMS

FOLDERS = {"ipc": "#f4f0e6", "forkserver": "#eef3fa", "client": "#eef7ee"}
# What a room is for, in a few words.
WORDS = {
    "ipc/base/include": "what both sides' headers say: step, failure, unique_fd",
    "ipc/base": "the facade over the kernel: fd, process_ref, proc, features",
    "ipc/wire": "schema, packet, message, limits, defaults",
    "ipc/audit": "what makes a process unsafe to fork",
    "forkserver/spawn": "request to plan to process; the child's steps",
    "forkserver/template/include": "template.hpp",
    "forkserver/template": "its loop, and its children up to the entry",
    "forkserver/daemon/loop": "what handlers wait with; their boundary",
    "forkserver/daemon/config": "options and file: what they may say",
    "forkserver/daemon/sessions": "one client's packets, its queue, what it uses",
    "forkserver/daemon/children": "all state of each child; signals, lifetimes",
    "forkserver/daemon/templates": "by name: generations and their children",
    "forkserver/daemon": "dispatch, spawns, exits, server, main",
    "client/include": "the public headers",
    "client/src/connection": "packets, waits, locks, children",
    "client/src/requests": "one struct for each kind of request",
    "client/src/run": "a program with its output",
    "client/src": "the public classes",
    "client/cli/options": "what was typed",
    "client/cli/reports": "what is printed",
    "client/cli/foreground": "a child at the terminal",
    "client/cli/commands": "one file for each command",
    "client/cli": "main",
    "client/python/src": "the extension module",
}


def reachable(room, but):
    """The rooms that are reached through the rooms that `room` may use, but `but` itself."""
    found, open_rooms = set(), [each for each in ROOMS[room] if each != but]
    while open_rooms:
        each = open_rooms.pop()
        if each not in found:
            found.add(each)
            open_rooms += ROOMS.get(each, [])
    return found


def arrows():
    """(room, what it uses), without those that follow from others."""
    for room, used in ROOMS.items():
        for other in used:
            if other in ROOMS and other not in reachable(room, other):
                yield room, other


def dot():
    lines = ["// What tests/house/rooms.py allows, without what follows; made by picture.py.",
             "digraph rooms {", "    rankdir=BT; ranksep=0.45; nodesep=0.25;",
             '    node [shape=box, style="rounded,filled", fillcolor="white", color="#777777",',
             '          fontname="Helvetica", fontsize=11, margin="0.12,0.06"];',
             '    edge [color="#555555", arrowsize=0.7];']
    for folder, color in FOLDERS.items():
        lines += [f'    subgraph "cluster_{folder}" {{',
                  f'        label="{folder}/"; fontname="Helvetica-Bold"; fontsize=12;',
                  f'        style="rounded,filled"; color="{color}"; fillcolor="{color}";']
        for room, words in WORDS.items():
            if room.startswith(folder + "/"):
                name = room.removeprefix(folder + "/")
                lines.append(f'        "{room}" [label=<<b>{name}</b><br/>'
                             f'<font point-size="9">{words}</font>>];')
        lines.append("    }")
    lines += [f'    "{room}" -> "{other}";' for room, other in arrows()]
    return "\n".join([*lines, "}", ""])


if __name__ == "__main__":
    print(dot(), end="")
