# Made by ./dev manual from what --help says.

_cleanfork_commands() {
    case "$1" in
        '') echo 'spawn call template serve ps kill wait stats events metrics shutdown audit doctor' ;;
        'template') echo 'add list show reload remove' ;;
    esac
}

_cleanfork_options() {
    case "$1" in
        '') echo '--help --version -h' ;;
        'spawn') echo '--ambient-caps --argv0 --bounding-set --cgroup --chdir --cpus --detach --die-with-parent --fd --group --groups --help --identity --ignore-environment --inh-caps --json --json-status-fd --kill-after --lifetime --listen-fd --nice --no-new-privs --oom-score-adj --private --process-group --pty --quiet --restart --restart-delay --restart-max --restart-window --rlimit --rotate-count --rotate-size --sched --setenv --setsid --signal --socket --stderr --stdout --timeout --tree --umask --unset --user --verbose -C -E -a -d -h -i -k -q -s -t -u -v' ;;
        'call') echo '--ambient-caps --bounding-set --cgroup --chdir --cpus --detach --die-with-parent --fd --group --groups --help --identity --ignore-environment --inh-caps --json --json-status-fd --kill-after --lifetime --listen-fd --nice --no-new-privs --oom-score-adj --payload --payload-file --process-group --pty --quiet --result-file --rlimit --rotate-count --rotate-size --sched --setenv --setsid --signal --socket --stderr --stdout --timeout --tree --umask --unset --user --verbose -C -E -d -h -i -k -q -s -t -u -v' ;;
        'template') echo '--help -h' ;;
        'template add') echo '--allow-fd --ambient-caps --argv0 --bounding-set --call-timeout --cgroup --chdir --cpus --fd --from --group --groups --help --huge-pages --identity --if-absent --ignore-environment --inh-caps --init --json --leases --listen-fd --nice --no-new-privs --no-wait --oom-score-adj --payload-file --process-group --rlimit --sched --setenv --setsid --socket --start-timeout --tolerate-unclean --umask --unset --user --warm -C -E -a -h -i -u' ;;
        'template list') echo '--help --json --socket -h' ;;
        'template show') echo '--help --json --socket -h' ;;
        'template reload') echo '--help --json --no-wait --socket -h' ;;
        'template remove') echo '--help --json --socket -h' ;;
        'ps') echo '--help --json --socket -h' ;;
        'kill') echo '--cgroup --group --help --json --signal --socket --tree -h -s' ;;
        'wait') echo '--help --json --socket --timeout -h' ;;
        'stats') echo '--help --json --socket -h' ;;
        'events') echo '--follow --help --json --socket -f -h' ;;
        'metrics') echo '--help --listen --socket -h' ;;
        'shutdown') echo '--help --json --no-wait --socket -h' ;;
        'audit') echo '--help --json --socket -h' ;;
        'doctor') echo '--help --json -h' ;;
    esac
}

_cleanfork_words() {
    case "$1" in
        'spawn') echo 'program
file' ;;
        'call') echo 'template
other
file' ;;
        'template add') echo 'other
program
file' ;;
        'template show') echo 'template' ;;
        'template reload') echo 'template' ;;
        'template remove') echo 'template' ;;
        'kill') echo 'child' ;;
        'wait') echo 'child' ;;
        'audit') echo 'template' ;;
    esac
}

# What the value of an option may be; nothing: it has none.
_cleanfork_value() {
    case "$1 $2" in
        'spawn -E') echo 'other' ;;
        'spawn --setenv') echo 'other' ;;
        'spawn -u') echo 'other' ;;
        'spawn --unset') echo 'other' ;;
        'spawn -C') echo 'dir' ;;
        'spawn --chdir') echo 'dir' ;;
        'spawn -a') echo 'other' ;;
        'spawn --argv0') echo 'other' ;;
        'spawn --fd') echo 'other' ;;
        'spawn --listen-fd') echo 'other' ;;
        'spawn --stdout') echo 'file' ;;
        'spawn --stderr') echo 'file' ;;
        'spawn --rotate-size') echo 'other' ;;
        'spawn --rotate-count') echo 'other' ;;
        'spawn --process-group') echo 'other' ;;
        'spawn --umask') echo 'other' ;;
        'spawn --cgroup') echo 'file' ;;
        'spawn --rlimit') echo 'other' ;;
        'spawn --nice') echo 'other' ;;
        'spawn --cpus') echo 'other' ;;
        'spawn --sched') echo 'other batch idle fifo: rr:' ;;
        'spawn --oom-score-adj') echo 'other' ;;
        'spawn --user') echo 'other' ;;
        'spawn --group') echo 'other' ;;
        'spawn --groups') echo 'other' ;;
        'spawn --ambient-caps') echo 'other' ;;
        'spawn --inh-caps') echo 'other' ;;
        'spawn --bounding-set') echo 'other' ;;
        'spawn --identity') echo 'caller forkserver' ;;
        'spawn --timeout') echo 'other' ;;
        'spawn -s') echo 'signal' ;;
        'spawn --signal') echo 'signal' ;;
        'spawn -k') echo 'other' ;;
        'spawn --kill-after') echo 'other' ;;
        'spawn --lifetime') echo 'other' ;;
        'spawn --restart') echo 'no on-failure always' ;;
        'spawn --restart-delay') echo 'other' ;;
        'spawn --restart-max') echo 'other' ;;
        'spawn --restart-window') echo 'other' ;;
        'spawn --socket') echo 'file' ;;
        'spawn --json-status-fd') echo 'other' ;;
        'call --payload') echo 'other' ;;
        'call --payload-file') echo 'file' ;;
        'call --result-file') echo 'file' ;;
        'call -E') echo 'other' ;;
        'call --setenv') echo 'other' ;;
        'call -u') echo 'other' ;;
        'call --unset') echo 'other' ;;
        'call -C') echo 'dir' ;;
        'call --chdir') echo 'dir' ;;
        'call --fd') echo 'other' ;;
        'call --listen-fd') echo 'other' ;;
        'call --stdout') echo 'file' ;;
        'call --stderr') echo 'file' ;;
        'call --rotate-size') echo 'other' ;;
        'call --rotate-count') echo 'other' ;;
        'call --process-group') echo 'other' ;;
        'call --umask') echo 'other' ;;
        'call --cgroup') echo 'file' ;;
        'call --rlimit') echo 'other' ;;
        'call --nice') echo 'other' ;;
        'call --cpus') echo 'other' ;;
        'call --sched') echo 'other batch idle fifo: rr:' ;;
        'call --oom-score-adj') echo 'other' ;;
        'call --user') echo 'other' ;;
        'call --group') echo 'other' ;;
        'call --groups') echo 'other' ;;
        'call --ambient-caps') echo 'other' ;;
        'call --inh-caps') echo 'other' ;;
        'call --bounding-set') echo 'other' ;;
        'call --identity') echo 'caller forkserver' ;;
        'call --timeout') echo 'other' ;;
        'call -s') echo 'signal' ;;
        'call --signal') echo 'signal' ;;
        'call -k') echo 'other' ;;
        'call --kill-after') echo 'other' ;;
        'call --lifetime') echo 'other' ;;
        'call --socket') echo 'file' ;;
        'call --json-status-fd') echo 'other' ;;
        'template add --warm') echo 'other' ;;
        'template add --leases') echo 'other' ;;
        'template add --start-timeout') echo 'other' ;;
        'template add --call-timeout') echo 'other' ;;
        'template add --allow-fd') echo 'other' ;;
        'template add --from') echo 'template' ;;
        'template add --init') echo 'other' ;;
        'template add --payload-file') echo 'file' ;;
        'template add -E') echo 'other' ;;
        'template add --setenv') echo 'other' ;;
        'template add -u') echo 'other' ;;
        'template add --unset') echo 'other' ;;
        'template add -C') echo 'dir' ;;
        'template add --chdir') echo 'dir' ;;
        'template add -a') echo 'other' ;;
        'template add --argv0') echo 'other' ;;
        'template add --fd') echo 'other' ;;
        'template add --listen-fd') echo 'other' ;;
        'template add --process-group') echo 'other' ;;
        'template add --umask') echo 'other' ;;
        'template add --cgroup') echo 'file' ;;
        'template add --rlimit') echo 'other' ;;
        'template add --nice') echo 'other' ;;
        'template add --cpus') echo 'other' ;;
        'template add --sched') echo 'other batch idle fifo: rr:' ;;
        'template add --oom-score-adj') echo 'other' ;;
        'template add --user') echo 'other' ;;
        'template add --group') echo 'other' ;;
        'template add --groups') echo 'other' ;;
        'template add --ambient-caps') echo 'other' ;;
        'template add --inh-caps') echo 'other' ;;
        'template add --bounding-set') echo 'other' ;;
        'template add --identity') echo 'caller forkserver' ;;
        'template add --socket') echo 'file' ;;
        'template list --socket') echo 'file' ;;
        'template show --socket') echo 'file' ;;
        'template reload --socket') echo 'file' ;;
        'template remove --socket') echo 'file' ;;
        'ps --socket') echo 'file' ;;
        'kill -s') echo 'signal' ;;
        'kill --signal') echo 'signal' ;;
        'kill --socket') echo 'file' ;;
        'wait --timeout') echo 'other' ;;
        'wait --socket') echo 'file' ;;
        'stats --socket') echo 'file' ;;
        'events --socket') echo 'file' ;;
        'metrics --listen') echo 'other' ;;
        'metrics --socket') echo 'file' ;;
        'shutdown --socket') echo 'file' ;;
        'audit --socket') echo 'file' ;;
    esac
}

# Names that the forkserver knows; quickly, and nothing where there is none.
_cleanfork_asked() {
    local -a at=()
    [[ -z $2 ]] || at=(--socket "$2")
    case $1 in
        template) timeout 2 cleanfork template list "${at[@]}" ;;
        child) timeout 2 cleanfork ps "${at[@]}" ;;
    esac 2>/dev/null </dev/null | awk 'NR > 1 { print $1 }'
}

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
    local IFS=$' \t\n' first=1 at=$COMP_CWORD current=${COMP_WORDS[COMP_CWORD]}
    local -a line=("${COMP_WORDS[@]}") words
    COMPREPLY=()
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
