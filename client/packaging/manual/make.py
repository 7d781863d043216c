"""./dev manual [--check]: the manual pages and the completions, made from what --help says.

    make.py BIN [--check]      BIN: where cleanfork and cleanforkd are; --check: only compares
"""

import os
import re
import sys

import api_pages
import completions
import help_text
import pages

HERE = os.path.dirname(os.path.abspath(__file__))
TREE = os.path.normpath(os.path.join(HERE, "../../.."))
MAN = os.path.join(TREE, "docs/man")
COMPLETIONS = os.path.join(os.path.dirname(HERE), "completions")


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def version():
    return re.search(r"project\(cleanfork VERSION ([0-9.]+)", read(f"{TREE}/CMakeLists.txt"))[1]


def made(bin_directory):
    """The content of each file that is made, or in part."""
    commands = help_text.commands(f"{bin_directory}/cleanfork")
    daemon = f"{bin_directory}/cleanforkd"
    files = {f"{MAN}/{'-'.join(c.words)}.1": pages.page_of_command(c, version())
             for c in commands[1:]}
    path = f"{MAN}/cleanforkd.8"
    options = [line for o in help_text.daemon(daemon) for line in pages.option(o)]
    files[path] = pages.with_part(read(path), "options", options)
    path = f"{MAN}/cleanforkd.toml.5"
    files[path] = pages.with_part(read(path), "keys", pages.keys(help_text.keys(daemon)))
    files[f"{MAN}/cleanfork.3"] = api_pages.of_headers(TREE, version())
    files[f"{MAN}/cleanfork.py.3"] = api_pages.of_package(TREE, version())
    for name, make in (("cleanfork.bash", completions.bash), ("_cleanfork", completions.zsh),
                       ("cleanfork.fish", completions.fish)):
        files[f"{COMPLETIONS}/{name}"] = make(commands)
    return files


def main():
    bin_directory, *rest = sys.argv[1:]
    files, stale = made(bin_directory), []
    for path, content in sorted(files.items()):
        if os.path.exists(path) and read(path) == content:
            continue
        stale.append(os.path.relpath(path, TREE))
        if rest != ["--check"]:
            with open(path, "w", encoding="utf-8") as file:
                file.write(content)
    if rest == ["--check"] and stale:
        raise SystemExit("not what --help says now; ./dev manual makes them anew: "
                         + ", ".join(stale))


if __name__ == "__main__":
    main()
