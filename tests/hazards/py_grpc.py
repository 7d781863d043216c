"""Groups 5 and 6 in Python: grpcio, with each of its settings for forks and for polling."""

import concurrent.futures
import os
import time

from py_support import Busy, Damage, bound, case, main

CODE = 7  # of a child that was answered rightly


class Live:
    """A server, a channel to it, and threads that call over it all the time."""

    def __init__(self):
        import grpc

        class Echo(grpc.GenericRpcHandler):
            def service(self, details):
                return grpc.unary_unary_rpc_method_handler(lambda request, context: request)

        pool = concurrent.futures.ThreadPoolExecutor(4)
        self.server = grpc.server(pool, handlers=[Echo()])
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()
        self.calls, self.failure = 0, ""
        self.echo()

    def echo(self):
        echo_of(self.port)(b"x" * 100, timeout=bound(1.2))

    def call(self):
        try:
            self.echo()
            self.calls += 1
        except Exception as e:  # whatever it is: a call of the parent has failed
            self.failure = self.failure or f"{type(e).__name__} {getattr(e, 'code', str)()}"
            time.sleep(0.1)


echoes = {}


def echo_of(port):
    """Over a channel that is made at the first use and kept."""
    if port not in echoes:
        import grpc

        echoes[port] = grpc.insecure_channel(f"127.0.0.1:{port}").unary_unary("/test/echo")
    return echoes[port]


def call_over_kept(port):
    for i in range(5):
        if echo_of(port)(b"%d" % i, timeout=bound(1.2)) != b"%d" % i:
            os._exit(1)
    os._exit(CODE)


def call_over_own(port):
    echoes.clear()
    call_over_kept(port)


def start_all(scene, target, port, at_once=10):
    """Children that use gRPC; what each should have ended with is CODE."""
    left = scene.tries
    while left > 0:
        batch = [scene.start(target, port) for _ in range(min(left, at_once))]
        deadline = time.monotonic() + bound(2.0)
        for process in batch:
            process.join(max(0, deadline - time.monotonic()))
            code = process.exitcode
            if code is None:
                process.kill()
                process.join()
            scene.tell(verdict(code))
            process.close()
        left -= len(batch)


def verdict(code):
    if code == CODE:
        return None
    if code is None:
        return Damage("hung", "the child hung")
    if code < 0:
        return Damage("crashed", f"the child: killed by signal {-code}")
    return Damage("failed", f"the child: exit code {code}")


def run_with(scene, target, support, poll):
    for name, value in (("GRPC_ENABLE_FORK_SUPPORT", support), ("GRPC_POLL_STRATEGY", poll)):
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    live = Live()
    with Busy(2, live.call):
        start_all(scene, target, live.port)
        calls, deadline = live.calls, time.monotonic() + bound()
        while live.calls < calls + 10 and not live.failure and time.monotonic() < deadline:
            time.sleep(0.01)
        if live.failure:
            scene.tell(Damage("parent failed", f"a call in the parent: {live.failure}"))
        elif live.calls < calls + 10:
            scene.tell(Damage("parent hung", "the parent's calls are not answered any more"))
        scene.end_here()


@case(5, "py-grpc-channel", "a grpcio channel, used by both", 10, 40)
def channel(scene):
    run_with(scene, call_over_kept, None, None)


def add(support, poll):
    told = "unset" if support is None else support

    @case(6, f"py-grpc-{told}-{poll}", f"grpcio, fork support {told}, poll by {poll}", 10, 25)
    def live(scene):
        run_with(scene, call_over_own, support, poll)


for fork_support in (None, "0", "1"):
    for strategy in ("epoll1", "poll"):
        add(fork_support, strategy)


if __name__ == "__main__":
    main()
