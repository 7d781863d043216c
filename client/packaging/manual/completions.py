"""Completions for bash, zsh and fish: what --help says, and names asked of the forkserver.

A word of the command line is an option's value, or the n-th word of a command that is no option.
Both have a kind: what the word may be.
"""

import re

# By what stands for a value in the help; of others nothing is known.
KINDS = {"PATH": "file", "FILE": "file", "DIR": "dir", "BASE": "template", "SIGNAL": "signal",
         "LEVEL": "debug info warning error", "POLICY": "no on-failure always",
         "POLICY[:PRIO]": "other batch idle fifo: rr:"}
# Words of commands, by the name in their usage.
WORDS = {"TEMPLATE": "template", "NAME": "template", "ID": "child", "PID|TEMPLATE": "template",
         "COMMAND": "program", "PROGRAM": "program"}


def kind_of(option):
    if re.fullmatch(r"[a-z-]+(\|[a-z-]+)+", option.value):
        return option.value.replace("|", " ")
    return KINDS.get(option.value, "other")


def words_of(command):
    """The kinds of its words; the last one is that of all that follow when it may be repeated."""
    usage = command.usage[-1 if command.words[-1] != "add" else 0]
    found = []
    for word in re.sub(r"\[OPTION\]\.\.\.", "", usage).split():
        name = word.removesuffix("...").strip("[]")
        if name not in ("--", "]"):
            found.append(WORDS.get(name, "file" if name == "ARG" else "other"))
    if command.words[-1] == "add":
        found[0] = "other"  # a new name
    return found


def quoted(text):
    return "'" + text.replace("'", "'\\''") + "'"


def tables(commands):
    """Of each command: its words, its options, and the kinds of their values."""
    for c in commands:
        key = " ".join(c.words[1:])
        flags = [name for o in c.options for name in o.names]
        if c.words == ["cleanfork"]:
            flags.append("--version")
        values = [(name, kind_of(o)) for o in c.options if o.value for name in o.names]
        yield key, c, sorted(set(flags)), values


# ---- what both shells of the Bourne kind do alike

WALK = """\
    # Which command it is, and the how-manieth word of it that is no option is asked for.
    local command='' word kind='' place=0 skip='' socket='' i
    for ((i = first; i < at; i++)); do
        word=${line[i]}
        if [[ -n $skip ]]; then
            [[ $skip != --socket ]] || socket=$word
            skip=''
        elif [[ $word == --socket=* ]]; then
            socket=${word#*=}
        elif [[ $word == -- ]]; then
            ((place++))
        elif [[ $word == -* ]]; then
            [[ -z $(_cleanfork_value "$command" "$word") ]] || skip=$word
        elif [[ -n $(_cleanfork_commands "$command") ]]; then
            command=${command:+$command }$word
        else
            ((place++))
        fi
    done
"""


def case(name, rows):
    lines = [f"{name}() {{", '    case "$1" in']
    lines += [f"        {quoted(key)}) echo {quoted(text)} ;;" for key, text in rows if text]
    return lines + ["    esac", "}", ""]


def shell_tables(commands):
    rows = list(tables(commands))
    lines = case("_cleanfork_commands",
                 [(key, " ".join(name for name, _ in c.subcommands))
                  for key, c, _, _ in rows if c.subcommands])
    lines += case("_cleanfork_options", [(key, " ".join(flags)) for key, _, flags, _ in rows])
    lines += case("_cleanfork_words", [(key, "\n".join(words_of(c)) if not c.subcommands else "")
                                       for key, c, _, _ in rows])
    lines += ["# What the value of an option may be; nothing: it has none.", "_cleanfork_value() {",
              "    case \"$1 $2\" in"]
    for key, _, _, values in rows:
        lines += [f"        {quoted(f'{key} {name}')}) echo {quoted(kind)} ;;"
                  for name, kind in values]
    lines += ["    esac", "}", "",
              "# Names that the forkserver knows; quickly, and nothing where there is none.",
              "_cleanfork_asked() {",
              "    local -a at=()",
              '    [[ -z $2 ]] || at=(--socket "$2")',
              "    case $1 in",
              '        template) timeout 2 cleanfork template list "${at[@]}" ;;',
              '        child) timeout 2 cleanfork ps "${at[@]}" ;;',
              "    esac 2>/dev/null </dev/null | awk 'NR > 1 { print $1 }'", "}", ""]
    return "\n".join(lines)


# ---- bash

BASH = """\
_cleanfork_complete() {
    local kind=$1 current=$2 socket=$3
    case $kind in
        template | child)
            COMPREPLY=($(compgen -W "$(_cleanfork_asked "$kind" "$socket")" -- "$current"))
            ;;
        signal) COMPREPLY=($(compgen -W "$(compgen -A signal | sed -n 's/^SIG//p')" -- "$current")) ;;
        file) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$current")) ;;
        dir) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -d -- "$current")) ;;
        program) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -c -- "$current")) ;;
        other | '') COMPREPLY=() ;;
        *) COMPREPLY=($(compgen -W "$kind" -- "$current")) ;;
    esac
}

_cleanfork() {
    local IFS=$' \\t\\n' first=1 at=$COMP_CWORD current=${COMP_WORDS[COMP_CWORD]}
    local -a line=("${COMP_WORDS[@]}") words
    COMPREPLY=()
%s
    if [[ -n $skip ]]; then
        _cleanfork_complete "$(_cleanfork_value "$command" "$skip")" "$current" "$socket"
    elif [[ $current == -* ]]; then
        COMPREPLY=($(compgen -W "$(_cleanfork_options "$command")" -- "$current"))
    elif [[ -n $(_cleanfork_commands "$command") ]]; then
        COMPREPLY=($(compgen -W "$(_cleanfork_commands "$command")" -- "$current"))
    else
        mapfile -t words < <(_cleanfork_words "$command")
        ((place < ${#words[@]})) || place=$((${#words[@]} - 1))
        ((place < 0)) || kind=${words[place]}
        _cleanfork_complete "$kind" "$current" "$socket"
    fi
}
complete -F _cleanfork cleanfork
"""

ZSH = """\
_cleanfork_complete() {
    local kind=$1 socket=$2
    case $kind in
        template | child) compadd -- ${(f)"$(_cleanfork_asked $kind $socket)"} ;;
        signal) compadd -- ${signals:#(ZERR|DEBUG)} ;;
        file) _files ;;
        dir) _files -/ ;;
        program) _command_names -e || _files ;;
        other | '') ;;
        *) compadd -- ${=kind} ;;
    esac
}

_cleanfork() {
    local first=2 at=$CURRENT
    local -a line=("${words[@]}") kinds
%s
    if [[ -n $skip ]]; then
        _cleanfork_complete "$(_cleanfork_value "$command" "$skip")" "$socket"
    elif [[ ${words[CURRENT]} == -* ]]; then
        compadd -- ${=$(_cleanfork_options "$command")}
    elif [[ -n $(_cleanfork_commands "$command") ]]; then
        compadd -- ${=$(_cleanfork_commands "$command")}
    else
        kinds=(${(f)"$(_cleanfork_words "$command")"})
        ((place < ${#kinds})) || place=$((${#kinds} - 1))
        ((place < 0)) || kind=${kinds[place+1]}
        _cleanfork_complete "$kind" "$socket"
    fi
}
_cleanfork "$@"
"""

HEAD = "# Made by ./dev manual from what --help says.\n"


def bash(commands):
    return HEAD + "\n" + shell_tables(commands) + "\n" + BASH % WALK.rstrip()


def zsh(commands):
    return "#compdef cleanfork\n" + HEAD + "\n" + shell_tables(commands) + "\n" + ZSH % WALK.rstrip()


# ---- fish

FISH = """\
# Names that the forkserver knows; quickly, and nothing where there is none.
function __cleanfork_asked
    set -l line (commandline -opc)
    set -l at
    if set -l place (contains -i -- --socket $line)
        set at --socket $line[(math $place + 1)]
    end
    switch $argv[1]
        case template
            timeout 2 cleanfork template list $at 2>/dev/null | awk 'NR > 1 { print $1 }'
        case child
            timeout 2 cleanfork ps $at 2>/dev/null | awk 'NR > 1 { print $1 }'
    end
end

# Whether the words of the command line that are no options begin with these.
function __cleanfork_at
    set -l words
    for word in (commandline -opc)[2..]
        string match -q -- '-*' $word; or set -a words $word
    end
    test (count $argv) -eq 0; and test (count $words) -eq 0; and return 0
    test (count $argv) -gt 0; or return 1
    test (count $words) -ge (count $argv); and test "$words[1..$(count $argv)]" = "$argv"
end
"""

FISH_KINDS = {"template": "-xa '(__cleanfork_asked template)'",
              "child": "-xa '(__cleanfork_asked child)'", "file": "-rF", "other": "-x",
              "dir": "-xa '(__fish_complete_directories)'",
              "signal": "-xa '(kill -l | string split \" \")'",
              "program": "-xa '(__fish_complete_command)'"}


def fish_kind(kind):
    return FISH_KINDS.get(kind) or f"-xa {quoted(kind)}"


def fish(commands):
    lines = [HEAD, FISH, "complete -c cleanfork -f"]
    for key, c, _, _ in tables(commands):
        where = f"complete -c cleanfork -n {quoted(f'__cleanfork_at {key}'.strip())}"
        for name, text in c.subcommands:
            lines.append(f"{where} -a {name} -d {quoted(text)}" if not key else
                         f"complete -c cleanfork -n {quoted(only(key))} -a {name} -d {quoted(text)}")
        for o in c.options:
            names = " ".join(f"-l {n[2:]}" if n.startswith("--") else f"-s {n[1:]}"
                             for n in o.names)
            value = " " + fish_kind(kind_of(o)) if o.value else ""
            lines.append(f"{where} {names}{value} -d {quoted(o.text)}")
        kinds = [k for k in words_of(c) if k != "other"] if not c.subcommands else []
        if kinds:
            lines.append(f"{where} {fish_kind(kinds[0])}")
    return "\n".join(lines) + "\n"


def only(key):
    return f"__cleanfork_at {key}; and test (count (string match -v -- '-*' (commandline -opc))) -eq 2"
