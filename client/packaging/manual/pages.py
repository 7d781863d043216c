"""Manual pages in roff(7): whole ones of commands, and parts of those that are written by hand."""

import re


def escape(text):
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti")
    text = text.replace("^", "\\(ha").replace("`", "\\(ga")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


def heading(title, section, version, manual):
    return ['.\\" Made by ./dev manual from what --help says: change it there.',
            f'.TH {title.upper()} {section} "" "cleanfork {version}" "{manual}"']


def option(o):
    names = ", ".join(f"\\fB{escape(name)}\\fR" for name in o.names)
    value = f" \\fI{escape(o.value)}\\fR" if o.value else ""
    return [".TP", names + value + (" \\&..." if o.many else ""), escape(o.text or "See there.")]


def options(groups):
    lines = []
    for name, group in groups:
        if name != "Options":
            lines.append(f'.SS "{escape(name)}"')
        for o in group:
            lines += option(o)
    return lines


def page_of_command(c, version):
    lines = heading("\\-".join(c.words), 1, version, "User Commands")
    lines += [".SH NAME", f"{escape('-'.join(c.words))} \\- {escape(first_sentence(c.description))}",
              ".SH SYNOPSIS", ".nf"]
    lines += [f"\\fB{escape(c.name)}\\fR {escape(u)}".rstrip() for u in c.usage]
    lines += [".fi", ".SH DESCRIPTION", escape(c.description)]
    if c.subcommands:
        lines.append(".SH COMMANDS")
        for name, text in c.subcommands:
            lines += [".TP", f".BR {escape('-'.join([*c.words, name]))} (1)", escape(text)]
    if c.positionals:
        lines.append(".SH ARGUMENTS")
        for name, text in c.positionals:
            lines += [".TP", f".I {escape(name)}", escape(text)]
    lines += [".SH OPTIONS", *options(c.groups)]
    if c.examples:
        lines += [".SH EXAMPLES", ".nf", *(escape(e.strip()) for e in c.examples), ".fi"]
    lines += [".SH SEE ALSO", ".BR cleanfork (1),", ".BR cleanforkd (8)"]
    return "\n".join(lines) + "\n"


def first_sentence(text):
    sentence = re.split(r"(?<=[a-z)]{2})[.:](?= |$)", text, maxsplit=1)[0]
    return sentence[0].lower() + sentence[1:]


def keys(groups):
    lines = []
    for name, group in groups:
        lines.append(f'.SS "{escape(name)}"')
        for key, value, text in group:
            lines += [".TP", f"\\fB{escape(key)}\\fR = \\fI{escape(value)}\\fR", escape(text)]
    return lines


def with_part(page, name, lines):
    """`page` with what is between the marks of `name` replaced."""
    begin, end = f'.\\" begin {name}, made by ./dev manual\n', f'.\\" end {name}\n'
    before, found, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        raise SystemExit(f"manual: no marks of {name}")
    return before + begin + "\n".join(lines) + "\n" + end + after
