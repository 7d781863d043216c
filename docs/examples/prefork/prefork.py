#!/usr/bin/python3
"""A prefork gRPC server: one port, N worker processes, and a supervisor that uses gRPC itself.

    prefork.py --workers 4 127.0.0.1:50051

SIGTERM drains all workers and ends, SIGHUP replaces them by a new generation, SIGTTIN and
SIGTTOU make them one more or one less: cleanfork.prefork.
"""

import argparse
import concurrent.futures
import contextlib
import os
import socket
import stat
import threading
import time

import cleanfork.prefork
import grpc
from google.protobuf.wrappers_pb2 import UInt64Value

METHOD = "/prefork.v1.Squares/Square"
THREADS = 32
LOOK_AGAIN = 0.01
PROBE_INTERVAL = 0.05


class Squares(grpc.GenericRpcHandler):
    """The service of prefork.proto, without generated code."""

    def __init__(self, work):
        self.work = work

    def service(self, details):
        if details.method != METHOD:
            return None
        return grpc.unary_unary_rpc_method_handler(
            self.square, UInt64Value.FromString, UInt64Value.SerializeToString)

    def square(self, request, context):
        # Of a call that gRPC repeats: how often it was tried.
        tried = [("attempts-before", value) for key, value in context.invocation_metadata()
                 if key == "grpc-previous-rpc-attempts"]
        context.send_initial_metadata((("worker-pid", str(os.getpid())), *tried))
        time.sleep(self.work)  # what a real one would compute or wait for
        return UInt64Value(value=request.value**2 % 2**64)


# ---- a worker

def read(path):
    with open(path, "rb") as file:
        return file.read()


def serve(worker, address, options):
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(THREADS),
                         handlers=[Squares(options.work / 1000)],
                         # Clients leave a connection of this age by themselves.
                         options=[("grpc.so_reuseport", 1),
                                  ("grpc.max_connection_age_ms", options.connection_age)])
    if options.tls:  # read by each worker: a reload takes new ones
        certificate, key = map(read, options.tls)
        server.add_secure_port(address, grpc.ssl_server_credentials([(key, certificate)]))
    else:
        server.add_insecure_port(address)
    server.start()
    worker.ready()
    worker.wait()
    drain(server, int(address.rpartition(":")[2]), options.grace / 1000)


def has_peer(one):
    """One that listened and was shut down has none."""
    try:
        return bool(one.getpeername())
    except OSError:
        return False


@contextlib.contextmanager
def sockets_at(port):
    """Copies of gRPC's sockets with this local port: the listening ones, and connections."""
    listening, connected, seen = [], [], set()
    with contextlib.ExitStack() as copies:
        for name in os.listdir("/proc/self/fd"):
            try:
                status = os.stat(f"/proc/self/fd/{name}")
                # A number of the list may have become that of a copy.
                if not stat.S_ISSOCK(status.st_mode) or status.st_ino in seen:
                    continue
                seen.add(status.st_ino)
                one = copies.enter_context(socket.socket(fileno=os.dup(int(name))))
            except OSError:  # closed meanwhile
                continue
            # gRPC's are of AF_INET6, whatever the address looks like.
            if one.family in (socket.AF_INET, socket.AF_INET6) and one.getsockname()[1] == port:
                if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    listening.append(one)
                elif has_peer(one):
                    connected.append(one)
        yield listening, connected


def name_of(one):
    host, port = one.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def drain(server, port, grace):
    """First no new connection, then the end of each, and only then the server's.

    server.stop() alone would answer calls with CANCELLED that come in the moment before
    the clients hear of it.
    """
    give_up = time.monotonic() + grace
    with sockets_at(port) as (listening, _):
        for one in listening:
            one.shutdown(socket.SHUT_RDWR)  # gRPC's own: it has no call for that
    while time.monotonic() < give_up:
        with sockets_at(port) as (_, connected):
            if not connected:
                break
        time.sleep(LOOK_AGAIN)
    server.stop(max(give_up - time.monotonic(), 0)).wait()


# ---- the supervisor

class Probe:
    """The supervisor's own channel to its workers, in use all the time."""

    def __init__(self, address, tls):
        if tls:
            channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(read(tls[0])))
        else:
            channel = grpc.insecure_channel(address)
        self.channel, self.done = channel, threading.Event()
        self.answers = self.failures = 0
        self.thread = threading.Thread(target=self.call)
        self.thread.start()

    def call(self):
        square = self.channel.unary_unary(METHOD, UInt64Value.SerializeToString,
                                          UInt64Value.FromString)
        while not self.done.wait(PROBE_INTERVAL):
            try:
                reply = square(UInt64Value(value=12), timeout=60, wait_for_ready=True)
                assert reply.value == 144
                self.answers += 1
            except grpc.RpcError:
                self.failures += 1

    def stop(self):
        self.done.set()
        self.channel.close()  # a call that waits for a worker ends
        self.thread.join()


def bind(address):
    """Holds the port: bound, so that it is ours, and not listening, so that it gets nothing."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind((host, int(port)))
    return held


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--tls", nargs=2, metavar=("CERTIFICATE", "KEY"), type=os.path.abspath)
    parser.add_argument("--connection-age", type=int, default=10_000,
                        help="ms after which clients connect anew")
    parser.add_argument("--grace", type=int, default=30_000, help="ms that a worker has to drain")
    parser.add_argument("--work", type=int, default=0, help="ms that each request takes")
    parser.add_argument("address", help="HOST:PORT, numeric; port 0 takes a free one")
    options = parser.parse_args()
    with bind(options.address) as held:
        address = name_of(held)
        supervisor = cleanfork.prefork.Supervisor(serve, options.workers, args=(address, options),
                                                  grace=options.grace / 1000)
        print(f"listening on {address}", flush=True)
        probe = Probe(address, options.tls)
        try:
            supervisor.run()
        finally:
            probe.stop()
        print(f"{probe.answers} answers of workers to their supervisor, {probe.failures} failures")


if __name__ == "__main__":
    main()
