"""What happens in a forkserver, as an iterator."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cleanfork._server import client as _client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cleanfork._cleanfork import Client

__all__ = ["events"]


def events(client: Client | None = None, *, follow: bool = True) -> Iterator[dict[str, object]]:
    """Events of the program's forkserver, or of that of `client`: what `cleanfork events` prints.

    Each is a dict with "time" (seconds since the epoch), "level", "event" (its name) and what
    belongs to that. First come the last that the log has; with `follow`,
    then all that happens, until the forkserver is lost, which raises SpawnError. Those that came
    faster than this was read are told by one {"event": "events_dropped", "count": N}.
    """
    source = client or _client()
    after = 0
    while True:
        page = source.events(after)
        if page["dropped"]:
            yield {"time": time.time(), "level": "warning", "event": "events_dropped",
                   "count": page["dropped"]}
        yield from page["events"]
        after = page["next"]
        if not follow and after == page["last"]:
            return
