"""METHOD KIND CHILDREN: a program with a live gRPC server and a busy channel starts processes
that call it, and programs. Prints how many did what they should, as JSON."""

import asyncio
import concurrent.futures
import json
import os
import subprocess
import sys
import threading
import time

import grpc

METHOD, KIND, CHILDREN = sys.argv[1], sys.argv[2], int(sys.argv[3])
PATIENCE = 3  # seconds for a child that has hung
MOST_HUNG = 3  # programs, and the rest would as well

HANDLER = grpc.unary_unary_rpc_method_handler(lambda request, context: request[::-1])


async def answer(request, context):
    return request[::-1]


def handlers(handler):
    return (grpc.method_handlers_generic_handler("test", {"turn": handler}),)


def serve():
    """The port of a server in this process, and what stops it."""
    if KIND == "sync":
        server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
        server.add_generic_rpc_handlers(handlers(HANDLER))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        return port, lambda: server.stop(None).wait()
    loop, port = asyncio.new_event_loop(), concurrent.futures.Future()
    ending = asyncio.Event()

    async def run():
        server = grpc.aio.server()
        server.add_generic_rpc_handlers(handlers(grpc.unary_unary_rpc_method_handler(answer)))
        port.set_result(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        await ending.wait()
        await server.stop(None)

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    return port.result(), lambda: (loop.call_soon_threadsafe(ending.set), thread.join())


async def call_async(port):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        return await channel.unary_unary("/test/turn")(b"abc", timeout=PATIENCE)


def child(port):
    if KIND == "aio":
        told = asyncio.run(call_async(port))
    else:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            told = channel.unary_unary("/test/turn")(b"abc", timeout=PATIENCE)
    os._exit(0 if told == b"cba" else 1)


def start_children(port):
    """How many ended well; seconds of each of those."""
    import multiprocessing

    import cleanfork

    context = (cleanfork.get_context() if METHOD == "cleanfork"
               else multiprocessing.get_context(METHOD))
    right, seconds = 0, []
    for _ in range(CHILDREN):
        begun = time.monotonic()
        process = context.Process(target=child, args=(port,))
        process.start()
        process.join(PATIENCE)
        if process.is_alive():
            process.kill()
            process.join()
        elif process.exitcode == 0:
            right += 1
            seconds.append(time.monotonic() - begun)
    return right, seconds


def start_programs():
    """How many ended well, beside calls in progress."""
    module = subprocess
    options = {"preexec_fn": os.setpgrp}
    if METHOD == "cleanfork":
        import cleanfork.subprocess as module

        options = {"process_group": 0}
    right = hung = 0
    for _ in range(CHILDREN * 5):
        try:
            done = module.run(["true"], timeout=PATIENCE, stderr=subprocess.DEVNULL, **options)
            right += done.returncode == 0
        except subprocess.SubprocessError:
            hung += 1
        if hung == MOST_HUNG:
            break
    return right


def main():
    port, stop = serve()
    ending, failed = threading.Event(), []

    def calls():
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            turn = channel.unary_unary("/test/turn")
            while not ending.is_set():
                try:
                    assert turn(b"xyz", timeout=30) == b"zyx"
                except grpc.RpcError as e:
                    failed.append(e.code().name)

    thread = threading.Thread(target=calls)
    thread.start()
    try:
        right, seconds = start_children(port)
        programs = start_programs()
    finally:
        ending.set()
        thread.join()
        stop()
    print(json.dumps({"children": right, "programs": programs, "seconds": seconds,
                      "failed": len(failed)}))


if __name__ == "__main__":
    main()
