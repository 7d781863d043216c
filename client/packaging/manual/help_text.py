"""What --help of the programs says, taken apart: the one source of manual pages and completions."""

import dataclasses
import re
import subprocess

OPTION = re.compile(r"  (?P<names>-[^\s,]+(?:, -[^\s,]+)*)(?: (?P<value>\S+))?(?P<many> \.\.\.)?"
                    r"(?:  +(?P<text>\S.*))?$")
WORD = re.compile(r"  (?P<name>[\w|-]+)  +(?P<text>\S.*)$")
KEY = re.compile(r"  (?P<name>[a-z][\w-]*) = (?P<value>.+?)(?:  +(?P<text>\S.*))?$")
HEADING = re.compile(r"(?P<name>[A-Z][^:]*):$")


@dataclasses.dataclass
class Option:
    names: list      # with their dashes, the long one last
    value: str       # what stands for its value; empty: it has none
    many: bool
    text: str

    @property
    def name(self):
        return self.names[-1]


@dataclasses.dataclass
class Command:
    words: list      # ["cleanfork", "template", "add"]
    usage: list      # lines, without the words
    description: str
    groups: list     # (heading, [Option])
    positionals: list  # (name, text)
    subcommands: list  # (name, text)
    examples: list   # lines

    @property
    def name(self):
        return " ".join(self.words)

    @property
    def options(self):
        return [option for _, group in self.groups for option in group]


def said(program, *words):
    done = subprocess.run([program, *words], capture_output=True, text=True, check=True)
    return done.stdout


def joined(lines):
    """Continuation lines, which are far to the right, belong to the line before."""
    whole = []
    for line in lines:
        if line.startswith(" " * 20) and whole and whole[-1].strip():
            whole[-1] += ("  " if whole[-1].count("  ") < 2 else " ") + line.strip()
        else:
            whole.append(line)
    return whole


def sections(text):
    """(heading, lines); what is before the first heading has none."""
    found = [("", [])]
    for line in text.splitlines():
        match = HEADING.match(line)
        if match:
            found.append((match["name"], []))
        else:
            found[-1][1].append(line)
    return found


def option_of(line):
    match = OPTION.match(line)
    if not match:
        raise SystemExit(f"manual: not understood: {line!r}")
    value = match["value"] or ""
    return Option(match["names"].split(", "), value, bool(match["many"]), match["text"] or "")


def command(program, words):
    (_, head), *rest = sections(said(program, *words[1:], "--help"))
    head = list(head)
    usage = []
    while head and (head[0].startswith("Usage: ") or head[0].startswith("       ")):
        usage.append(head.pop(0)[7:].removeprefix(" ".join(words)).strip())
    result = Command(words, usage, " ".join(line.strip() for line in head).strip(), [], [], [], [])
    for heading, lines in rest:
        lines = [line for line in joined(lines) if line.strip()]
        if heading == "Examples":
            result.examples = lines
        elif heading == "Commands":
            result.subcommands = [WORD.match(line).group("name", "text") for line in lines]
        elif heading == "Positionals":
            result.positionals = [WORD.match(line).group("name", "text") for line in lines]
        else:
            result.groups.append((heading, [option_of(line) for line in lines]))
    return result


def commands(program):
    """`cleanfork` and all below it; serve is cleanforkd's."""
    top = command(program, ["cleanfork"])
    found = [top]
    for name, _ in top.subcommands:
        if name == "serve":
            continue
        found.append(command(program, ["cleanfork", name]))
        found += [command(program, ["cleanfork", name, below])
                  for below, _ in found[-1].subcommands]
    return found


def daemon(program):
    """cleanforkd: CLI11's own form of a help."""
    lines = said(program, "--help").splitlines()
    start = lines.index("Options:") + 1
    options = [line for line in joined(lines[start:]) if line.strip()]
    found = []
    for line in options:
        match = re.match(r"  (\S+?)(?: ([A-Z]\S*))?(?: Excludes: \S+)?  +(\S.*)$", line)
        if not match:
            raise SystemExit(f"manual: not understood: {line!r}")
        found.append(Option(match[1].split(","), match[2] or "", False, match[3]))
    return found


def keys(program):
    """(heading, [(name, value, text)]) of the file of cleanforkd."""
    found = []
    for heading, lines in sections(said(program, "--help-config"))[1:]:
        found.append((heading, [KEY.match(line).group("name", "value", "text")
                                for line in joined(lines) if line.strip()]))
    return found
