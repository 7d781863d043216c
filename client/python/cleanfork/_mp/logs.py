"""The program's logging in its processes, on request: it handles their records itself.

So files are written by one process, formatters and filters need no copy, and whatever the program
changes later holds. Levels are copied at a process's start: what is not wanted is not sent.
"""

from __future__ import annotations

import atexit
import errno
import logging
import logging.handlers
import os
import pickle
import socket
import threading
import traceback
from typing import Any

_LARGEST = 1 << 18  # of one record; the socket's buffer is smaller
_SHORTENED = 50_000  # characters of one that does not fit
_OWN = "multiprocessing"  # whose log_to_stderr() the standard module carries over
_FLUSH = 5.0  # seconds at the end of the program

# The end that records are written to: of this program, or of the one that began it all.
_writer: socket.socket | None = None
_lock = threading.RLock()  # reentrant for signal handlers that start a process


def _forget() -> None:
    """In the child of an os.fork() nobody reads."""
    global _writer, _lock
    _writer, _lock = None, threading.RLock()


os.register_at_fork(after_in_child=_forget)


# ---- in the program

def _handle(data: bytes) -> None:
    try:
        record = logging.makeLogRecord(pickle.loads(data))
        logging.getLogger(record.name).handle(record)
    except Exception:  # a filter's, or of a class that is not here
        traceback.print_exc()


def _listen(reader: socket.socket, flushed: threading.Event) -> None:
    while True:
        data = reader.recv(_LARGEST)
        if data == b"flush":
            flushed.set()
        elif data:
            _handle(data)


def _begin() -> socket.socket:
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    flushed = threading.Event()
    threading.Thread(target=_listen, args=(reader, flushed), daemon=True,
                     name="cleanfork-logging").start()
    pid = os.getpid()

    def flush() -> None:
        """Before logging.shutdown(), which was registered earlier."""
        if os.getpid() == pid:
            writer.send(b"flush")
            flushed.wait(_FLUSH)

    atexit.register(flush)
    return writer


def _levels() -> dict[str, tuple[int, bool]]:
    loggers = logging.root.manager.loggerDict.items()
    return {name: (each.level, each.disabled) for name, each in list(loggers)
            if isinstance(each, logging.Logger) and (each.level or each.disabled)}


def state_for_child() -> tuple[socket.socket, int, int, dict[str, tuple[int, bool]]]:
    global _writer
    with _lock:
        if _writer is None:
            begun = _begin()
            if _writer is None:  # else a signal handler was here meanwhile
                _writer = begun
    return _writer, logging.root.level, logging.root.manager.disable, _levels()


# ---- in a process

class _ToProgram(logging.handlers.QueueHandler):
    def __init__(self, writer: socket.socket) -> None:
        super().__init__(writer)  # type: ignore[arg-type]

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self._send(record)
        except OSError as e:
            if e.errno == errno.EMSGSIZE:
                record.msg = f"{str(record.msg)[:_SHORTENED]}... (shortened)"
                record.message = record.msg
                self._send(record)
            elif logging.lastResort is not None:  # the program is gone
                logging.lastResort.handle(record)

    def _send(self, record: logging.LogRecord) -> None:
        writer: Any = self.queue
        try:
            data = pickle.dumps(record.__dict__)
        except Exception:  # what came with extra=
            data = pickle.dumps({name: value if isinstance(value, (str, int, float)) or value is None
                                 else repr(value) for name, value in record.__dict__.items()})
        writer.send(data)


def take_over(state: tuple[socket.socket, int, int, dict[str, tuple[int, bool]]]) -> None:
    """What the imports have set up here would write each record a second time."""
    global _writer
    _writer, level, disable, levels = state
    logging.root.handlers[:] = [_ToProgram(_writer)]
    logging.root.setLevel(level)
    logging.root.manager.disable = disable
    for name in {*logging.root.manager.loggerDict, *levels} - {_OWN}:
        logger = logging.root.manager.loggerDict.get(name)
        if name in levels or isinstance(logger, logging.Logger):
            logger = logging.getLogger(name)
            logger.handlers.clear()
            logger.propagate = True
            own_level, logger.disabled = levels.get(name, (logging.NOTSET, False))
            logger.setLevel(own_level)
