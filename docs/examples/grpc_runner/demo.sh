#!/usr/bin/env bash
# Runs ordinary programs through the gRPC server, and compares what comes back
# with the same programs run from this shell.
#   demo.sh BUILD_DIRECTORY        exits with 1 when anything differs
set -euo pipefail
bin=$(readlink -f "${1:?usage: demo.sh BUILD_DIRECTORY}")/bin
root=$(readlink -f "$(dirname "$0")/../../..")
work=$(mktemp -d)
address=unix:$work/socket
clients=4
failures=0
server= forkserver=
export LC_ALL=C
ulimit -c 0

cleanup() {
    [[ -z $server ]] || kill -KILL "$server" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

client() { "$bin/grpc_runner_client" "$@"; }
kib() { awk -v name="$2:" '$1 == name {print $2}' "/proc/$1/status"; }

# must COMMAND...: its line of the demo ends with yes or NO
must() {
    if "$@"; then
        echo yes
    else
        echo NO
        return 1
    fi
}

# line WHAT TEXT COMMAND...
line() {
    printf '%-14s %-80s ' "$1" "$2"
    must "${@:3}" || failures=$((failures + 1))
}

# ---- ordinary programs, through the server and directly

through_server() { client -v -E GREETING=hello -C "$directory" "$address" "$@"; }
directly() (
    umask 022
    cd "$directory" && exec env GREETING=hello "$@"
)

# program NAME DIRECTORY INPUT COMMAND...: run as $how says, results to $results
program() {
    local name=$1 directory=$2 input=$3 result=$results/$1 code=0
    "$how" "${@:4}" <"$input" >"$result.out" 2>"$result.err" || code=$?
    echo "$code" >"$result.code"
    # The client's own line is the last one of its standard error.
    sed -n 's/^grpc_runner_client: //p' "$result.err" >"$result.end"
    sed -i '/^grpc_runner_client: /d' "$result.err"
    echo "$name" >>"$results/names"
}

programs() {
    how=$1 results=$2
    mkdir "$results"
    program sort "$root" "$work/sources" sort -u
    program grep "$root" /dev/null grep -rn unique_fd ipc client
    program sha256sum "$root" "$work/files" xargs sha256sum
    program pipeline "$root/ipc" /dev/null sh -c \
        'cat *.hpp | tr -cs "[:alpha:]" "\n" | sort | uniq -c | sort -rn | head -5'
    program environment /usr/lib /dev/null sh -c 'echo "$GREETING from $PWD"; umask'
    program fails "$root" /dev/null ls README.md no-such-file
    program signal / /dev/null sh -c 'echo soon; kill -SEGV $$'
    program no-program / /dev/null no-such-program
    program no-directory /no/such/directory /dev/null ls
}

# Output, errors and code as here. A program that never ran has no output to
# compare: then the failure must name the right step and object.
same() {
    local got=$1/$2 want=$work/direct/$2 says
    says=$(<"$got.end")
    case $2 in
        no-program) [[ $says == 'exec "no-such-program"'*ENOENT* && $(<"$got.code") == 127 ]] ;;
        no-directory) [[ $says == 'chdir "/no/such/directory"'*ENOENT* && $(<"$got.code") == 125 ]] ;;
        signal) cmp -s "$got.out" "$want.out" && [[ $says == *SIGSEGV* && $(<"$got.code") == 139 ]] ;;
        *) cmp -s "$got.out" "$want.out" && cmp -s "$got.err" "$want.err" &&
            cmp -s "$got.code" "$want.code" ;;
    esac
}

same_for_all() {
    local number
    for ((number = 1; number <= clients; ++number)); do
        same "$work/client$number" "$1" || return 1
    done
}

show_programs() {
    local number name result running=()
    (cd "$root" && find ipc client forkserver -name '*.[ch]pp' | sort) >"$work/files"
    (cd "$root" && xargs cat <"$work/files") >"$work/sources"
    for ((number = 1; number <= clients; ++number)); do
        programs through_server "$work/client$number" &
        running+=($!)
    done
    wait "${running[@]}"
    programs directly "$work/direct"
    echo
    echo "$clients clients at once, each with these programs: as if run from this shell?"
    while read -r name; do
        result=$work/client1/$name
        line "$name" "$(printf '%6d bytes, %.64s' "$(stat -c %s "$result.out")" \
            "$(sed 's/^pid [0-9]* //' "$result.end")")" same_for_all "$name"
    done <"$work/client1/names"
}

# ---- much output, slow readers, and what a child holds

show_streams() {
    head -c 100M /dev/urandom >"$work/big"
    local before
    before=$(kib "$server" VmHWM)
    client "$address" cat <"$work/big" >"$work/copy"
    line cat "100 MiB in and out, the same bytes" cmp -s "$work/big" "$work/copy"
    mkfifo "$work/slow"
    client "$address" cat "$work/big" >"$work/slow" &
    local caller=$! slow cat_pid progress last=-1
    exec {slow}<"$work/slow"
    head -c 1M <&"$slow" >"$work/copy"
    cat_pid=$(pgrep -P "$forkserver" -x cat)
    # Other calls go on meanwhile; once one leaves no trace on cat, it stands still.
    while progress=$(awk '/^rchar/ {print int($2 / 1048576)}' "/proc/$cat_pid/io") &&
        [[ $progress != "$last" ]]; do
        last=$progress
        client "$address" sha256sum "$work/big" </dev/null >/dev/null
    done
    line "a slow reader" "took 1 MiB and waits; cat has come to $progress of 100 MiB and waits too" \
        [ "$progress" -lt 50 ]
    show_descriptors
    cat <&"$slow" >>"$work/copy"
    exec {slow}<&-
    wait "$caller"
    line "" "then reads on and gets the rest, the same bytes" cmp -s "$work/big" "$work/copy"
    line memory "the server's peak: $((before / 1024)) MiB before, $(($(kib "$server" VmHWM) / 1024)) MiB after" \
        [ "$(kib "$server" VmHWM)" -lt $((before + 48 * 1024)) ]
}

# While another call is on: the server has connections, epolls and pipes then.
show_descriptors() {
    find "/proc/$server/fd" -type l -printf '%l\n' 2>/dev/null | sort >"$work/server-fds"
    client "$address" sh -c 'find /proc/$$/fd -type l -printf "%f %l\n"' </dev/null | sort >"$work/child-fds"
    cut -d ' ' -f 2 "$work/child-fds" | sort >"$work/child-targets"
    line descriptors "the server's: $(sed 's/:*\[[0-9]*\]$//; s/anon_inode:\[\(.*\)\]/\1/; s/^\/.*/file/' \
        "$work/server-fds" | sort | uniq -c | awk '{printf "%s%d %s", (NR > 1 ? ", " : ""), $1, $2}')" \
        grep -q socket "$work/server-fds"
    line "" "a child's: $(awk '{printf "%s%s %s", (NR > 1 ? ", " : ""), $1, $2}' "$work/child-fds")" \
        diff -q <(cut -d ' ' -f 1 "$work/child-fds") <(printf '0\n1\n2\n')
    line "" "none of them one that the server held then" \
        [ -z "$(comm -12 "$work/server-fds" "$work/child-targets")" ]
}

# ---- the ends of calls, and of the server

# A fifo that a program and all it starts hold open: its end is the end of them all.
start_sleepers() { # FIFO
    mkfifo "$1"
    "$bin/grpc_runner_client" "$address" sh -c "exec 9>'$1'; sleep 1000 & sleep 1000" </dev/null >"$1.log" 2>&1 &
    sleepers_client=$!
    exec {alive}<"$1"
}
leaves_a_process() {
    timeout 10 "$bin/grpc_runner_client" "$address" sh -c 'yes & sleep 0.1' </dev/null >"$work/yes"
}
sleepers_are_gone() { timeout 10 cat <&"$alive" && exec {alive}<&-; }

show_ends() {
    local alive sleepers_client code=0
    start_sleepers "$work/cancelled"
    kill -TERM "$sleepers_client"
    line "a lost client" "killed, and so is its program with the process it started" sleepers_are_gone
    line "a leftover" "the call ends with its program, while yes(1) still holds the pipe" \
        leaves_a_process
    start_sleepers "$work/late"
    client --timeout 0.2 "$address" sleep 1000 </dev/null 2>"$work/deadline" || code=$?
    line "a deadline" "$(sed 's/^grpc_runner_client: //' "$work/deadline") after 0.2 s" [ "$code" = 125 ]
    printf '%-14s %s\n' "the server" "$(kib "$server" Threads) threads; the forkserver $(kib "$forkserver" Threads)"
    code=0
    kill -TERM "$server"
    wait "$server" || code=$?
    server=
    line SIGTERM "the server exited with $code" [ "$code" = 0 ]
    line "" "a program that still ran is gone" sleepers_are_gone
    line "" "the forkserver is gone" forkserver_is_gone
    line "" "the socket is gone" [ ! -e "$work/socket" ]
}

# It is nobody's child here, so there is nothing to wait for but its state.
forkserver_is_gone() {
    local tries state
    for ((tries = 0; tries < 500; ++tries)); do
        read -r state 2>/dev/null <"/proc/$forkserver/stat" || return 0
        [[ ${state##*) } == [ZX]* ]] && return 0
        read -r -t 0.02 <>"$work/log" || true
    done
    return 1
}

main() {
    local said='' log
    mkfifo "$work/log"
    "$bin/grpc_runner_server" "$address" >"$work/log" 2>&1 </dev/null &
    server=$!
    exec {log}<"$work/log"
    read -r -t 10 said <&"$log" || true
    [[ $said == "listening on $address, "* ]] || {
        echo "the server does not listen: $said"
        exit 1
    }
    forkserver=${said##* }
    echo "grpc_runner_server, process $server: $said"
    show_programs
    echo
    show_streams
    show_ends
    [[ $failures == 0 ]] || {
        echo "$failures differ from what was expected"
        exit 1
    }
}

main
