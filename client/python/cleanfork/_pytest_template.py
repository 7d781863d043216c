"""What a template of pytest --cleanfork imports: a session of pytest that has collected."""
# mypy: disable-error-code="import, misc"

from __future__ import annotations

import contextlib
import io
import json
import os
from typing import Any

import pytest
from _pytest.config import _prepareconfig

from cleanfork.pytest_plugin import VARIABLE

# A child captures its own output, and has a handler of faults that is its own.
_OTHERWISE = ("--capture=no", "-p", "no:faulthandler")


def _collect(how: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The configuration, and the items by their names."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            config: Any = _prepareconfig([*how["args"], *_OTHERWISE])
            config._do_configure()
            session: Any = pytest.Session.from_config(config)
            config.hook.pytest_sessionstart(session=session)
            config.hook.pytest_collection(session=session)
        except BaseException as e:
            raise RuntimeError(f"pytest cannot collect in the template: {e!r}\n"
                               f"{out.getvalue()}") from None
    return config, {item.nodeid: item for item in session.items}


how: dict[str, Any] = json.loads(os.environ.pop(VARIABLE))
config, items = _collect(how)
