"""Keeps so many worker processes at work: restarts, drains and replaces them.

    def serve(worker, address):            # in each worker
        server = ...                       # begins here: threads, gRPC
        worker.ready()
        worker.wait()                      # until it is to drain
        server.stop()

    cleanfork.prefork.Supervisor(serve, workers=4, args=(address,)).run()

The supervisor may use threads and gRPC itself: its workers are no copies of it. run()
ends by SIGTERM or SIGINT, once all workers have drained; SIGHUP replaces them by a new
generation, which has imported everything anew; SIGTTIN and SIGTTOU make them one more or
one less. A worker drains when it gets SIGTERM, and when its supervisor is gone. With
limits=Limits(requests=1000, age=3600, pss=200 << 20, hang=30) workers are replaced in time.

python3 -m cleanfork.prefork [OPTION]... MODULE:APP serves an ASGI or WSGI application so.
"""

from __future__ import annotations

from cleanfork._limits import Limits
from cleanfork._supervisor import Supervisor
from cleanfork._worker import Worker

__all__ = ["Limits", "Supervisor", "Worker"]

if __name__ == "__main__":
    from cleanfork._app_server import main

    main()
