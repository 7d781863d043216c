"""The extension module: the C++ client, with the GIL and Python's errors seen to.

Thread-safe. Waits let go of the GIL, and signal handlers run meanwhile; one that raises ends the
wait, and takes back what it waited for. Failures are cleanfork.SpawnError. After os.fork() the
child cannot use what its parent made.
"""

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Final, Literal, NoReturn, Protocol, TypedDict, final

class _HasFileno(Protocol):
    def fileno(self) -> int: ...

class _Lifetime(Protocol):
    """A cleanfork.Lifetime."""

    keep: bool
    signal: int
    grace: float
    target: str

_Text = str | bytes | PathLike[str] | PathLike[bytes]
_Descriptor = int | _HasFileno
class _RotatedFile(Protocol):
    """A cleanfork.RotatedFile."""

    path: _Text
    size: int
    count: int

# PIPE, DEVNULL (also None) and STDOUT of subprocess, INHERIT, a descriptor, a path, or a file
# that is rotated by size.
_Stdio = None | _Descriptor | _Text | _RotatedFile
_Bytes = bytes | bytearray | memoryview

__version__: Final[str]
DEFAULT_GRACE: Final[float]  # of a Lifetime, in seconds
INHERIT: Final[int]  # for stdin, stdout, stderr: the caller's descriptor of the same number

@final
class ExitStatus:
    """How a child ended: exited(code) | signaled(signal) | unknown(why). True for exited 0."""

    exited: Final[bool]
    signaled: Final[bool]
    unknown: Final[bool]
    code: Final[int]  # -1 unless exited
    signal: Final[int]  # 0 unless signaled
    core_dumped: Final[bool]
    why: Final[str]
    def __bool__(self) -> bool: ...

@final
class Process:
    """A child. Dropping it neither signals nor waits: its lifetime decides what becomes of it."""

    pid: Final[int]  # for display: signal and poll through the pidfd
    pidfd: Final[int]  # borrowed; readable once the child has ended; -1 when it ended at once
    @property
    def child_id(self) -> int: ...
    def wait(self, timeout: float | None = None) -> ExitStatus | None:
        """None when it still runs after `timeout` seconds."""
    def poll(self) -> ExitStatus | None: ...
    def signal(self, number: int) -> None: ...
    def signal_group(self, number: int) -> None: ...
    def signal_tree(self, number: int) -> None:
        """To it and all its descendants: for a Lifetime with target="tree"."""
    def kill_tree(self) -> None: ...
    tree: Final[Literal["cgroup", "walk"] | None]  # by what they are found
    @property
    def usage(self) -> tuple[float, ...]:
        """The fields of resource.struct_rusage."""
    @property
    def wall(self) -> float:
        """Seconds from the clone to the reap; 0 while unknown."""
    @property
    def error(self) -> str:
        """Of a call: the exception its entry ended with; empty: none."""
    # Owned by the caller from then on; -1: there is none.
    def take_stdin(self) -> int: ...
    def take_stdout(self) -> int: ...
    def take_stderr(self) -> int: ...
    def take_result(self) -> int: ...

class ServerInfo(TypedDict):
    instance: str
    version: str
    pid: int
    session: int
    features: list[str]

class Histogram(TypedDict):
    bounds: list[float]  # seconds, rising
    counts: list[int]  # at most that bound, above the one before; the last: above all
    sum: float

class ServerMetrics(TypedDict):
    exec: Histogram
    call: Histogram
    warm_call: Histogram
    queued: Histogram
    turns: Histogram
    failures: dict[str, int]  # by step
    leased_calls: int
    exited_zero: int
    exited_other: int
    signalled: int
    unknown: int

class ServerStats(TypedDict):
    pid: int
    version: str
    instance: str
    uptime: float
    sessions: int
    sessions_total: int
    children: int
    statuses: int
    queued: int
    spawned_total: int
    failed_total: int
    exited_total: int
    protocol_errors_total: int
    quota_refusals_total: int
    descriptors: int
    rss_kib: int
    spawn_time_total: float
    spawn_time_max: float
    turn_time_max: float
    metrics: ServerMetrics

class EventPage(TypedDict):
    events: list[dict[str, object]]  # each with "time", "level", "event" and what belongs to it
    next: int  # what to ask with the next time
    last: int  # there is more when this is above `next`
    dropped: int  # before these: they came faster than they were asked for

class ChildInfo(TypedDict):
    child: int
    pid: int
    session: int  # 0: kept beyond its session
    command: str
    template_name: str
    age: float
    keep: bool
    tree: Literal["cgroup", "walk"] | None
    restarts: int  # so far
    last_status: ExitStatus | None  # of the process before this one
    begins_in: str | None  # the step it takes its time in; "child" is 0 then
    given_up: bool
    restart_in: float | None  # seconds; no process runs until then
    status: ExitStatus | None
    wall: float
    error: str

class GenerationInfo(TypedDict):
    generation: int
    state: str
    pid: int
    age: float
    initialization: float
    threads: int
    children: int
    warm_pids: list[int]
    unclean: str
    stderr_tail: str

class TemplateInfo(TypedDict):
    name: str
    command: str
    base: str
    state: str
    generation: int
    warm: int
    last_error: str | None
    stderr_tail: str
    restarts: int
    calls_total: int
    waiting: int
    retry_in: float
    generations: list[GenerationInfo]
    was_there: bool  # of add_template(unless_there=True): another has added it

@final
class Client:
    """A session with a forkserver; its children meet their lifetime when it ends."""

    @property
    def connected(self) -> bool: ...
    @property
    def server(self) -> ServerInfo: ...
    def close(self) -> None: ...
    def fileno(self) -> int:
        """The socket, borrowed."""
    def spawn(
        self, program: _Descriptor | _Text, args: Iterable[_Text] = (), *,
        # umask, ignored signals, limits, priority and processors of this program
        like_caller: bool = False,
        timeout: float | None = None,  # for the spawn, not the child
        argv0: _Text | None = None,
        stdin: _Stdio = None, stdout: _Stdio = None, stderr: _Stdio = None,
        # {number in the child: descriptor}, or descriptors that keep their numbers.
        fds: Mapping[int, _Descriptor] | Iterable[_Descriptor] | None = None,
        listen_fds: Iterable[tuple[_Descriptor, str]] | None = None,
        # Exactly these; None: this program's, as they are now. The same for cwd.
        env: Mapping[str, str] | Mapping[bytes, bytes] | Mapping[_Text, _Text] | None = None,
        cwd: _Descriptor | _Text | None = None,
        umask: int | None = None,
        process_group: int | None = None,  # 0: its own, the default
        start_new_session: bool = False,
        controlling_terminal: int | None = None,
        rlimits: Mapping[int, tuple[int, int]] | None = None,  # resource.RLIMIT_*: (soft, hard)
        nice: int | None = None,
        affinity: Iterable[int] | None = None,
        scheduling: tuple[int, int] | None = None,  # os.SCHED_*, priority
        oom_score_adj: int | None = None,
        user: int | None = None, group: int | None = None, groups: Sequence[int] | None = None,
        no_new_privs: bool = False,
        # Capabilities by name or number: exactly these. Ambient ones are inheritable as well.
        ambient_caps: Iterable[str | int] | None = None,
        inheritable_caps: Iterable[str | int] | None = None,
        bounding_caps: Iterable[str | int] | None = None,
        # Whose rights, limits and scheduling it has otherwise; None: "caller".
        identity: Literal["caller", "forkserver"] | None = None,
        parent_death_signal: int | None = None,
        ignored_signals: Iterable[int] | None = None,  # besides the caller's, with like_caller
        cgroup: _Descriptor | _Text | None = None,
        lifetime: _Lifetime | None = None,
        # With lifetime=KEEP: started anew when it has ended, as the same child, from the same
        # descriptors. wait() is for its last process; pid and pidfd are of the first.
        restart: Literal["no", "on-failure", "always"] | None = None,
        restart_delay: float | None = None,  # seconds, doubled with each restart: 0.1
        restart_max: int | None = None,  # starts within restart_window, then no more: 5; 0: no limit
        restart_window: float | None = None,  # seconds: 10
        queue_timeout: float | None = None,
    ) -> Process: ...
    def call(
        self, template_name: str, entry: str, payload: _Descriptor | _Bytes | None = None, *,
        args: Iterable[_Text] = (), named_fds: Mapping[str, int] = ...,
        session_name: str = "",  # as named_fds, of what open_session() gives
        # An eventfd from which the child reads before it begins, and into which it then writes
        # its pid. When the forkserver is lost after that, call() gives the process all the
        # same. When call() fails, the child never begins, or the exception's `began` is True.
        claim_name: str = "",
        result: bool = False,
        like_caller: bool = False, timeout: float | None = None,
        # As of spawn().
        stdin: _Stdio = None, stdout: _Stdio = None, stderr: _Stdio = None,
        fds: Mapping[int, _Descriptor] | Iterable[_Descriptor] | None = None,
        listen_fds: Iterable[tuple[_Descriptor, str]] | None = None,
        env: Mapping[str, str] | Mapping[bytes, bytes] | Mapping[_Text, _Text] | None = None,
        cwd: _Descriptor | _Text | None = None,
        umask: int | None = None, process_group: int | None = None,
        start_new_session: bool = False, controlling_terminal: int | None = None,
        rlimits: Mapping[int, tuple[int, int]] | None = None, nice: int | None = None,
        affinity: Iterable[int] | None = None, scheduling: tuple[int, int] | None = None,
        oom_score_adj: int | None = None,
        user: int | None = None, group: int | None = None, groups: Sequence[int] | None = None,
        no_new_privs: bool = False, ambient_caps: Iterable[str | int] | None = None,
        inheritable_caps: Iterable[str | int] | None = None,
        bounding_caps: Iterable[str | int] | None = None,
        identity: Literal["caller", "forkserver"] | None = None,
        parent_death_signal: int | None = None,
        ignored_signals: Iterable[int] | None = None,
        cgroup: _Descriptor | _Text | None = None, lifetime: _Lifetime | None = None,
        queue_timeout: float | None = None,
    ) -> Process: ...
    def add_template(
        self, name: str, program: _Descriptor | _Text | None = None,
        args: Iterable[_Text] = (), *,
        like_caller: bool = False,  # umask and ignored signals of this program
        timeout: float | None = None,
        own_program: bool = False,
        base: str | None = None, initializer: str | None = None,
        initializer_args: Iterable[_Text] = (), initializer_payload: bytes | None = None,
        initializer_fds: Mapping[str, int] | None = None,
        warm: int = 0, start_timeout: float | None = None, call_timeout: float | None = None,
        wait: bool = True, allowed_descriptors: Sequence[int] | None = None,
        tolerate_unclean: bool = False, ends_with_session: bool = False,
        unless_there: bool = False, huge_pages: bool = False,
        # As of spawn().
        argv0: _Text | None = None,
        stdin: _Stdio = None, stdout: _Stdio = None, stderr: _Stdio = None,
        fds: Mapping[int, _Descriptor] | Iterable[_Descriptor] | None = None,
        env: Mapping[str, str] | Mapping[bytes, bytes] | Mapping[_Text, _Text] | None = None,
        cwd: _Descriptor | _Text | None = None,
        umask: int | None = None, rlimits: Mapping[int, tuple[int, int]] | None = None,
        nice: int | None = None, affinity: Iterable[int] | None = None,
        oom_score_adj: int | None = None, no_new_privs: bool = False,
        identity: Literal["caller", "forkserver"] | None = None,
        cgroup: _Descriptor | _Text | None = None,
    ) -> TemplateInfo: ...
    def templates(self, timeout: float | None = None) -> list[TemplateInfo]: ...
    def template_info(self, name: str, timeout: float | None = None) -> TemplateInfo: ...
    def reload_template(self, name: str, wait: bool = True,
                        timeout: float | None = None) -> TemplateInfo: ...
    def remove_template(self, name: str, timeout: float | None = None) -> None: ...
    def events(self, after: int = 0, timeout: float | None = None) -> EventPage:
        """What has happened after that event; cleanfork.events() is an iterator of it."""
    def stats(self, timeout: float | None = None) -> ServerStats: ...
    def open_session(self) -> int:
        """A socket for attach(), of this process or of a child: another session."""
    # Last: its name hides the type.
    def list(self, timeout: float | None = None) -> list[ChildInfo]: ...

def launch(daemon: _Text | None = None, *, daemon_args: Sequence[str] = (), log_fd: int = -1,
           timeout: float = 10.0, descendant: bool | None = None,
           lends_rights: bool = False) -> Client:
    """Starts a private forkserver. It ends with the client, or with this process.

    ``descendant``: as in cleanfork.start().

    ``lends_rights``: once this process has given up its user, it may still ask for children
    with the rights of the forkserver (``identity="forkserver"``).
    """

def connect(path: _Text | None = None, *, timeout: float = 10.0,
            lends_rights: bool = False) -> Client:
    """Joins a running one; None: at CLEANFORK_SOCKET, or the usual place."""

def attach(fd: int, *, timeout: float = 10.0) -> Client:
    """Takes over a socket (AF_UNIX, SOCK_SEQPACKET) that is connected to one."""

def open_pty(*, rows: int = 24, columns: int = 80, echo: bool = True,
             raw: bool = False) -> tuple[int, int]:
    """A new pseudo terminal: the master's descriptor and the terminal's, owned by the caller."""

def read_result(fd: int) -> bytes:
    """The answer of an entry, of what Process.take_result() gave, once the child has ended."""

# For cleanfork.template.
def ignored_signals() -> list[int]:
    """What the kernel ignores for this process."""

def current_umask() -> int: ...

def not_for_children(own: int) -> list[int]:
    """Descriptors of this process, but 0 to 2 and `own`, that children of a template do not have:
    sockets, pipes, what is locked."""

def c_environment() -> dict[bytes, bytes]:
    """What putenv(3) and the like have made of it; os.environ is what Python began with."""

def environment_block() -> bytes:
    """The same, as C has it: each variable with a NUL behind it, in its order."""

def environment_is(block: bytes) -> bool:
    """Whether it is still that. For a process with one thread."""

def serve_template(control: int, host: object) -> NoReturn: ...
