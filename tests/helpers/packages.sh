# Debian's packages, and what ./dev needs of them. Sourced by it; uses its die() and quietly().

# What each subcommand needs, by names that Debian 12 and later have: of "a>=1.2|b" the first that
# is installed, else the first that can be; "-" is to do without. A name with a * is never
# installed, only found. Only what is missing gets installed.
build_packages=(cmake ninja-build g++ pkg-config
    'libboost-dev>=1.81|libboost1.81-dev|libboost1.[89]*-dev' libprotobuf-dev
    protobuf-compiler nlohmann-json3-dev libcli11-dev libtomlplusplus-dev)
grpc_packages=(libgrpc++-dev protobuf-compiler-grpc)
python_packages=(python3-dev pybind11-dev)
# Of Boost.Process, which is a library of its own since 1.86.
bench_packages=(
    'libboost-filesystem-dev>=1.81|libboost-filesystem1.81-dev|libboost-filesystem1.[89]*-dev'
    'libboost-process-dev>=1.86|libboost-process1.[89]*-dev|-' python3-numpy strace)
example_packages=(zlib1g-dev openssl)
test_packages=("${build_packages[@]}" "${grpc_packages[@]}" "${bench_packages[@]}"
    "${example_packages[@]}" doctest-dev procps python3
    "${python_packages[@]}" python3-grpcio python3-numpy
    python3-cloudpickle python3-pytest python3-joblib python3-dask python3-gevent python3-eventlet
    python3-pip python3-venv mypy prometheus man-db zsh fish 'clang|clang-[12][0-9]')
kernel_packages=(qemu-system-x86 busybox-static cpio binutils)
interpreter_packages=(g++ make patchelf pkg-config libbz2-dev libffi-dev liblzma-dev
    libreadline-dev libsqlite3-dev libssl-dev uuid-dev zlib1g-dev)
fuzz_packages=("${build_packages[@]}" clang libclang-rt-dev)

# at_least '' VERSION, at_least '>=1.2' VERSION: whether a package of that version, which is empty
# when there is none, will do.
at_least() {
    [[ -n $2 ]] && { [[ -z $1 ]] || dpkg --compare-versions "$2" ge "${1#>=}"; }
}

installed() {
    dpkg-query -W -f '${db:Status-Status} ${Version}\n' "$1" 2>/dev/null |
        sed -n 's/^installed //p;T;q'
}

candidate() {
    apt-cache policy "$1" 2>/dev/null | sed -n 's/^  Candidate: \([^(].*\)/\1/p'
}

# What to install of each "a>=1.2|b"; the whole of it when apt has none of them.
missing_packages() {
    local wanted each name choice alternatives
    for wanted in "$@"; do
        IFS='|' read -ra alternatives <<<"$wanted"
        choice=''
        for each in "${alternatives[@]}"; do
            name=${each%%>=*}
            at_least "${each#"$name"}" "$(installed "$name")" && continue 2
        done
        for each in "${alternatives[@]}"; do
            name=${each%%>=*}
            [[ -z $choice && $name != *'*'* ]] || continue
            ! at_least "${each#"$name"}" "$(candidate "$name")" || choice=$name
            [[ $name != - ]] || choice=-
        done
        [[ $choice == - ]] || echo "${choice:-$wanted}"
    done
}

apt() {
    local as_root=()
    [[ $EUID == 0 ]] || as_root=(sudo)
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-remove \
        -o DPkg::Lock::Timeout=300 "$@"
}

ensure() {
    command -v dpkg-query >/dev/null || return 0 # not Debian: CMake names what it lacks
    local missing
    mapfile -t missing < <(missing_packages "$@")
    [[ ${#missing[@]} -gt 0 ]] || return 0
    [[ $EUID == 0 ]] || command -v sudo >/dev/null ||
        die "needs root or sudo to install: ${missing[*]}"
    # Package lists that are absent or old make the first try fail.
    if [[ ${missing[*]} != *'|'* ]] && install_packages "${missing[@]}" 2>/dev/null; then return; fi
    quietly apt update || quietly apt update || die "apt-get update failed"
    mapfile -t missing < <(missing_packages "$@")
    install_packages "${missing[@]}" || die "could not install: ${missing[*]}"
}

install_packages() {
    echo "dev: installing $*"
    quietly apt install --no-install-recommends "$@"
}

# CPython's own tests are packaged for each of its versions.
ensure_tests() {
    ensure "${test_packages[@]}"
    ensure "libpython$(python_series)-testsuite"
}

python_series() {
    /usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])'
}

# Other versions of clang-format differ in what they find right: it is 14, of Debian 12, or of PyPI.
formatter() {
    local ours=build/clang-format/bin/clang-format
    command -v clang-format-14 && return
    if [[ -x $ours ]]; then
        echo "$ours"
    elif [[ -n $(candidate clang-format-14) ]]; then
        ensure clang-format-14 >&2
        command -v clang-format-14
    else
        return 1
    fi
}

formatter_of_pypi() {
    local where=build/clang-format
    ensure python3-venv >&2
    quietly /usr/bin/python3 -m venv "$where"
    quietly "$where/bin/pip" install clang-format==14.0.6 ||
        die "no clang-format 14: Debian has none here, and PyPI cannot be reached"
    echo "$where/bin/clang-format"
}
