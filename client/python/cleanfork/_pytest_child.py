"""A child of pytest --cleanfork: one test, reported to the program."""
# mypy: disable-error-code="import, misc"

from __future__ import annotations

import faulthandler
import os
import pathlib
import pickle
import sys
from typing import Any

from cleanfork import _compat


class _Teller:
    """Tells the program what it is to report."""

    def __init__(self, config: Any, channel: Any) -> None:
        self._config, self._channel = config, channel

    def pytest_runtest_logreport(self, report: Any) -> None:
        self._channel.send(("report", self._config.hook.pytest_report_to_serializable(
            config=self._config, report=report)))

    def pytest_warning_recorded(self, warning_message: Any, when: str, nodeid: str,
                                location: Any) -> None:
        told = {"warning_message": warning_message, "when": when, "nodeid": nodeid,
                "location": location}
        try:
            pickle.dumps(told)
        except Exception:  # it has what cannot be sent
            told["warning_message"] = type(warning_message)(
                UserWarning(str(warning_message.message)), UserWarning,
                warning_message.filename, warning_message.lineno)
        self._channel.send(("warning", told))


def run(channel: Any, name: str, place: str | None) -> None:
    """The target of each child. Its end does not wait for what the test may have left."""
    template = sys.modules["cleanfork._pytest_template"]  # there is none elsewhere
    config, how, items = template.config, template.how, template.items
    if sys.__stderr__ is not None:
        faulthandler.enable(sys.__stderr__)
    if name not in items:
        raise RuntimeError(f"{name} was collected by the program, and not in the template: a test "
                           "has to have the same name in each collection")
    if place is not None:
        config._tmp_path_factory._basetemp = pathlib.Path(place)
    config.pluginmanager.register(_Teller(config, channel), "cleanfork-teller")
    capture = config.pluginmanager.getplugin("capturemanager")
    capture.stop_global_capturing()  # that of the template took nothing
    capture._method = how["capture"]
    capture.start_global_capturing()
    capture.suspend_global_capture()
    config.hook.pytest_runtest_protocol(item=items[name], nextitem=None)
    capture.stop_global_capturing()
    channel.close()
    _compat.run_exits()
    os._exit(0)
