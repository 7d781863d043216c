"""Which room may use which: an include against the arrows is a complaint."""

# Each room, with the rooms (or single files) before it that it may include. Every file is in
# the room with the longest name that its path begins with; tests and docs may include anything.
ORDER = "forkserver/template/order.hpp"  # the one file that daemon and template share
IPC = ["ipc/base/include", "ipc/base", "ipc/wire", "ipc/audit"]
ROOMS = {
    # What is installed knows only what is installed.
    "ipc/base/include": [],
    "forkserver/template/include": ["ipc/base/include"],
    "client/include": ["ipc/base/include"],

    "ipc/base": ["ipc/base/include"],
    "ipc/wire": ["ipc/base/include", "ipc/base"],
    "ipc/audit": ["ipc/base/include", "ipc/base", "ipc/wire"],

    "forkserver/spawn": IPC,
    "forkserver/template": [*IPC, "forkserver/template/include", "forkserver/spawn"],
    "forkserver/daemon/loop": IPC,
    "forkserver/daemon/config": [*IPC, "forkserver/daemon/loop"],
    "forkserver/daemon/sessions": [*IPC, "forkserver/spawn", "forkserver/daemon/loop"],
    "forkserver/daemon/children": [*IPC, "forkserver/spawn", "forkserver/daemon/loop",
                                   "forkserver/daemon/sessions"],
    "forkserver/daemon/templates": [*IPC, "forkserver/spawn", ORDER, "forkserver/daemon/children",
                                    "forkserver/daemon/loop", "forkserver/daemon/sessions"],
    "forkserver/daemon": [*IPC, "forkserver/spawn", ORDER, "forkserver/daemon/children",
                          "forkserver/daemon/config", "forkserver/daemon/loop", "forkserver/daemon/sessions",
                          "forkserver/daemon/templates"],

    "client/src/connection": [*IPC, "client/include"],
    "client/src/requests": [*IPC, "client/include", "client/src/connection"],
    "client/src/run": [*IPC, "client/include", "client/src/connection", "client/src/requests"],
    "client/src": [*IPC, "client/include", "client/src/connection", "client/src/requests",
                   "client/src/run"],

    # The command is a user of the library, with a look at processes of its own.
    "client/cli/options": ["ipc/base/include", "ipc/base", "ipc/audit", "client/include"],
    "client/cli/reports": ["ipc/base/include", "ipc/base", "ipc/audit", "client/include",
                           "client/cli/options"],
    "client/cli/foreground": ["ipc/base/include", "ipc/base", "ipc/audit", "client/include",
                              "client/cli/options", "client/cli/reports"],
    "client/cli/commands": ["ipc/base/include", "ipc/base", "ipc/audit", "client/include",
                            "client/cli/options", "client/cli/reports", "client/cli/foreground"],
    "client/cli": ["ipc/base/include", "ipc/base", "ipc/audit", "client/include",
                   "client/cli/options", "client/cli/reports", "client/cli/foreground",
                   "client/cli/commands"],

    # The module is client and template in one, since a Python program is both.
    "client/python/src": [*IPC, "client/include", "client/src/connection", "client/src/requests",
                          "client/src/run", "client/src", "forkserver/template/include",
                          "forkserver/template", "forkserver/spawn"],
}
# What all of the daemon's rooms share, though it is in the last of them.
SHARED = {"forkserver/daemon/daemon_ids.hpp": "forkserver/daemon/sessions",
          "forkserver/daemon/log.hpp": "forkserver/daemon/loop",
          "forkserver/daemon/log_output.hpp": "forkserver/daemon/loop"}


def room_of(path):
    """The room of a file; None for one that may include anything."""
    if path in SHARED:
        return SHARED[path]
    return max((room for room in ROOMS if path.startswith(room + "/")), key=len, default=None)


def check(tree):
    for path in tree.of(".cpp", ".hpp"):
        room = room_of(path)
        if room is None:
            if not path.startswith(("tests/", "docs/")):
                yield f"{path}:1: is in no room of tests/house/rooms.py"
            continue
        for number, included in tree.includes(path):
            other = room_of(included)
            if other != room and other not in ROOMS[room] and included not in ROOMS[room]:
                yield (f"{path}:{number}: {room} must not include from "
                       f"{other or 'elsewhere'}: {included}")

