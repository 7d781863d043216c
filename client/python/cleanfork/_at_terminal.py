"""What a Popen has for a child at a pseudo terminal. _pty has the rest, loaded when it is used."""

from __future__ import annotations

import errno
import subprocess as _stdlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cleanfork import _pty


class _Signature:
    """What inspect finds of a Popen: the standard one's signature, and pty."""

    def __get__(self, instance: Any, owner: Any) -> Any:
        import inspect  # not for every program

        if owner.__init__ is not AtTerminal.__init__:
            raise AttributeError("__signature__")
        standard = inspect.signature(_stdlib.Popen)
        pty = inspect.Parameter("pty", inspect.Parameter.KEYWORD_ONLY, default=False)
        return standard.replace(parameters=[*standard.parameters.values(), pty])


class AtTerminal:
    """Before the standard class among the bases of Popen."""

    __signature__ = _Signature()
    _terminal: _pty.Setup | None = None

    @property
    def pty(self) -> _pty.Master | None:
        """Of a child at a pseudo terminal: its master, an unbuffered file to read and to write."""
        return self._terminal.master if self._terminal is not None else None

    def resize(self, rows: int, columns: int) -> None:
        """Give the terminal another size: SIGWINCH for its foreground process group."""
        if self.pty is None:
            raise ValueError("the child has no terminal of ours: it was started without pty")
        from cleanfork import _pty

        _pty.resize(self.pty.fileno(), rows, columns)

    if not TYPE_CHECKING:  # the hints are the standard class's, whose overloads infer AnyStr

        def __init__(self, args, bufsize=-1, executable=None, stdin=None, stdout=None, stderr=None,
                     *rest, pty=False, **keywords):
            """As the standard class; ``pty``: streams that are not given are a new terminal."""
            if not pty:
                super().__init__(args, bufsize, executable, stdin, stdout, stderr, *rest,
                                 **keywords)
                return
            from cleanfork import _pty

            with _pty.Setup(pty, (stdin, stdout, stderr), rest, keywords) as self._terminal:
                super().__init__(args, bufsize, executable, *self._terminal.streams, *rest,
                                 **keywords)
                self._terminal.give_files(self)

        def __exit__(self, exc_type, value, traceback):
            if self.pty is not None:
                self.pty.close()  # hangs up, as closing its pipes tells other children to end
            super().__exit__(exc_type, value, traceback)

        def _communicate(self, input, endtime, orig_timeout):
            while True:
                try:
                    return super()._communicate(input, endtime, orig_timeout)
                except OSError as e:
                    if e.errno != errno.EIO or self._terminal is None:
                        raise
                    if not self._terminal.ended(self):
                        raise
                    if self.stdin is not None and self.stdin.closed:
                        input = None
