"""Arguments of Popen as the options of a spawn; what is wrong raises what the standard module does."""

from __future__ import annotations

import errno
import os
import sys
from operator import index
from signal import SIG_IGN, SIGPIPE, SIGXFSZ, getsignal

from cleanfork._cleanfork import INHERIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_DEVNULL = -3  # of subprocess
_BY_CLINIC = sys.version_info >= (3, 12)  # how Python's C code takes arguments (gh-94518)

# Python ignores these, and restore_signals gives them their default back. What else this
# program ignores is ignored in the child as well.
_RESTORED = (SIGPIPE, SIGXFSZ)


def ignored_by_python() -> list[int]:
    """Without restore_signals: what else this program ignores is ignored in any case."""
    return [s for s in _RESTORED if getsignal(s) == SIG_IGN]


def words(args: Any, shell: bool) -> list[Any]:
    if isinstance(args, (str, bytes)):
        all_words: list[Any] = [args]
    elif isinstance(args, os.PathLike):
        if shell:
            raise TypeError("path-like args is not allowed when shell is true")
        all_words = [args]
    else:
        all_words = list(args)
    return ["/bin/sh", "-c", *all_words] if shell else all_words


def integer(value: Any) -> int:
    """As the standard module's C code takes an int."""
    number = index(value)
    if _BY_CLINIC and not -0x80000000 <= number <= 0x7FFFFFFF:
        raise OverflowError("Python int too large to convert to C int")
    if number > 0x7FFFFFFF:
        raise OverflowError("signed integer is greater than maximum")
    if number < -0x80000000:
        raise OverflowError("signed integer is less than minimum")
    return number


def switch(value: Any) -> bool:
    """Any value from 3.12 on, an int before."""
    return bool(value if _BY_CLINIC else integer(value))


# The highest number of a user or group: setuid(2) and its like take the next one for "no change".
_LAST_ID = 0xFFFFFFFE
_MOST_GROUPS = 65536  # NGROUPS_MAX


def add_ids(options: dict[str, Any], uid: int | None, gid: int | None,
            gids: list[int] | None) -> None:
    if gids is not None:
        if len(gids) > _MOST_GROUPS:
            raise ValueError(f"too many {'extra_' if _BY_CLINIC else ''}groups")
        if any(index(each) > _LAST_ID for each in gids):
            raise ValueError("invalid group id")
        options["groups"] = gids
    for name, what, number in (("group", "gid", gid), ("user", "uid", uid)):
        if number is None:
            continue
        if index(number) > _LAST_ID:
            raise OverflowError(f"{what} is greater than maximum")
        options[name] = number
    if uid is not None and gids is None:
        options["groups"] = os.getgroups()


def add_streams(options: dict[str, Any], fds: tuple[int, ...]) -> None:
    for number, (name, fd) in enumerate(zip(("stdin", "stdout", "stderr"), map(integer, fds))):
        if fd < -1:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        options[name] = fd if fd != -1 else INHERIT if _is_open(number) else _DEVNULL


def encoded_environment(env: Mapping[Any, Any]) -> dict[bytes, bytes]:
    variables = {encoded(k): encoded(v) for k, v in env.items()}
    if any(not name or b"=" in name for name in variables):
        raise ValueError("illegal environment variable name")
    return variables


def encoded(value: Any) -> bytes:
    text = os.fsencode(value)
    if b"\0" in text:
        raise ValueError("embedded null byte")
    return text


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _inheritable() -> set[int]:
    """What a child of fork and exec would have: close_fds=False."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.get_inheritable(int(name)):
                found.add(int(name))
        except OSError:
            pass  # that of the listing itself
    return found


def passed(pass_fds: Any, close_fds: bool) -> list[int]:
    """The descriptors above 2 that the child gets, each under its own number."""
    fds = {int(fd) for fd in pass_fds}
    if any(not 0 <= fd <= 0x7FFFFFFF for fd in fds):
        raise ValueError("bad value(s) in fds_to_keep")
    if not close_fds:
        fds |= _inheritable()
    return [fd for fd in fds if fd > 2]
