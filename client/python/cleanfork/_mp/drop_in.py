"""The start method "forkserver", served by cleanfork."""

from __future__ import annotations

import multiprocessing.popen_forkserver as stock
from multiprocessing import context, resource_tracker
from typing import Any

from cleanfork import _compat, _server
from cleanfork._mp import popen, templates
from cleanfork._mp.context import CleanforkProcess, drop_in


class Popen(popen.Popen):
    method = "forkserver"

    def __init__(self, process_obj: Any) -> None:
        super().__init__(process_obj, drop_in)


def _ensure_running() -> None:
    """As the standard one: the process of that pid runs when this returns."""
    resource_tracker.ensure_running()
    _compat.set_forkserver_pid(templates.ready_pid(drop_in))


def _stop() -> None:
    _server.stop()
    _compat.set_forkserver_pid(None)


def install() -> None:
    if templates.installed:
        return
    templates.installed = True
    stock.Popen = Popen  # type: ignore[assignment, misc]
    context.ForkServerProcess.exitcode = CleanforkProcess.exitcode  # type: ignore[assignment]
    _compat.replace_forkserver(_ensure_running, drop_in.set_forkserver_preload, _stop)
