"""pytest --cleanfork: each test in a fresh process, forked from a template that has collected.

The template imports the conftests and test modules once, and no test has run in it. So a test
meets nothing that another has left, at about the cost of a fork, and one that crashes is one
failure, with its exact signal. Fixtures of a wider scope than a function are made in each.
"""
# mypy: disable-error-code="import, misc, arg-type"

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

# For the template: what this pytest was started with.
VARIABLE = "CLEANFORK_PYTEST"


def pytest_addoption(parser: Any) -> None:
    parser.getgroup("cleanfork").addoption(
        "--cleanfork", action="store_true",
        help="run each test in a fresh process, forked from a template that has collected them")


def pytest_configure(config: Any) -> None:
    if not config.getoption("--cleanfork") or "cleanfork._pytest_template" in sys.modules:
        return
    for option, name in (("usepdb", "--pdb"), ("trace", "--trace"), ("numprocesses", "-n")):
        if config.getoption(option, None):
            raise pytest.UsageError(f"{name} and --cleanfork do not go together")
    if not config.getoption("collectonly"):
        config.pluginmanager.register(FreshProcesses(config), "cleanfork-processes")


class FreshProcesses:
    """Has the protocol of each test run elsewhere, and reports it here."""

    def __init__(self, config: Any) -> None:
        from cleanfork.multiprocessing import get_context

        self._config = config
        self._context = get_context(preload=["cleanfork._pytest_template"], warm=2)

    def pytest_collection_finish(self, session: Any) -> None:
        if not session.items:
            return
        invocation = self._config.invocation_params
        os.environ[VARIABLE] = json.dumps({"args": [os.fspath(arg) for arg in invocation.args],
                                           "capture": self._config.getoption("capture")})
        try:
            self._context.start()
        except RuntimeError as e:
            raise pytest.UsageError(str(e)) from None
        finally:
            del os.environ[VARIABLE]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: Any, nextitem: Any) -> bool:
        ihook = item.ihook
        ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self._reports(item):
            ihook.pytest_runtest_logreport(report=report)
        ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def _reports(self, item: Any) -> Iterator[Any]:
        from cleanfork._pytest_child import run

        factory = getattr(self._config, "_tmp_path_factory", None)
        place = None if factory is None else str(factory.getbasetemp())
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=run, args=(theirs, item.nodeid, place), daemon=True)
        with ours:
            process.start()
            theirs.close()
            finished = False
            try:
                for kind, data in self._told(ours, process.sentinel):
                    if kind == "warning":
                        self._config.hook.pytest_warning_recorded.call_historic(kwargs=data)
                        continue
                    report = self._config.hook.pytest_report_from_serializable(
                        config=self._config, data=data)
                    finished |= report.when == "teardown"
                    yield report
            except BaseException:  # such as a Ctrl-C
                process.kill()
                raise
            finally:
                process.join()
        if not finished:
            yield _crashed(item, process)
        process.close()

    @staticmethod
    def _told(channel: Any, sentinel: int) -> Iterator[tuple[str, Any]]:
        """Until its end, also when a process that it has left keeps the channel open."""
        from multiprocessing.connection import wait

        while channel in wait([channel, sentinel]):
            try:
                yield channel.recv()
            except EOFError:
                return


def _crashed(item: Any, process: Any) -> Any:
    from _pytest.reports import TestReport

    from cleanfork._ends import how_it_ended

    return TestReport(item.nodeid, item.location, {}, "failed",
                      f"its process ended before the test: {how_it_ended(process)}", "call")
