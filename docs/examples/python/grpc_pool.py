"""A gRPC server that computes in processes: which a stock fork would break, and spawn slow down.

    grpc_pool.py [CALLS]      serves, asks itself that often from several threads (40), ends

No code is generated: a generic handler takes and gives text.
"""

import concurrent.futures
import os
import sys

import cleanfork
import grpc

PROCESSES = 4
CALLERS = 8


def primes_below(limit):
    """In a process of the pool: how many there are, and who counted."""
    sieve = bytearray([1]) * limit
    sieve[:2] = b"\0\0"
    for n in range(2, int(limit**0.5) + 1):
        if sieve[n]:
            sieve[n * n :: n] = bytes(len(range(n * n, limit, n)))
    return sum(sieve), os.getpid()


class Primes(grpc.GenericRpcHandler):
    def __init__(self, pool):
        self.pool = pool

    def service(self, details):
        if details.method == "/primes/Below":
            return grpc.unary_unary_rpc_method_handler(self.below)
        return None

    def below(self, request, context):
        # Processes start here, among gRPC's threads, when the pool has too few.
        count, pid = self.pool.submit(primes_below, int(request)).result()
        return f"{count} {pid}".encode()


def main():
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    context = cleanfork.get_context()
    with (concurrent.futures.ProcessPoolExecutor(PROCESSES, mp_context=context) as pool,
          concurrent.futures.ThreadPoolExecutor(CALLERS) as threads):
        server = grpc.server(threads, handlers=[Primes(pool)])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with (grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
              concurrent.futures.ThreadPoolExecutor(CALLERS) as callers):
            below = channel.unary_unary("/primes/Below")
            answers = list(callers.map(lambda _: below(b"100000", timeout=60), range(calls)))
        server.stop(None).wait()
    counts = {int(answer.split()[0]) for answer in answers}
    pids = {int(answer.split()[1]) for answer in answers}
    if counts != {9592} or os.getpid() in pids:
        sys.exit(f"wrong answers: {counts}")
    print(f"{len(answers)} calls answered by {len(pids)} processes: 9592 primes below 100000")


if __name__ == "__main__":
    main()
