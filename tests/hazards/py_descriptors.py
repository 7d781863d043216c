"""Group 4 in Python: descriptors, which parent and child share with all there is behind them."""

import selectors
import socket
import tempfile
import time

from py_support import Damage, bound, case, finish, main

# ---- the offset of a file

RECORDS = 2000
source = None  # the program's input, opened at its first use


def read_records(path):
    global source
    if source is None:
        source = open(path, "rb", buffering=0)
    found = 0
    while block := source.read(8):
        found += int.from_bytes(block, "little") == found
    return found


def send(connection, function, *args):
    connection.send(function(*args))


@case(4, "py-file-offset", "one file, read by both: each misses records", 10, 50)
def offset(scene):
    def once(_):
        global source
        source = open(file.name, "rb", buffering=0)
        ours, theirs = scene.context.Pipe()
        process = scene.start(send, theirs, read_records, file.name)
        theirs.close()
        mine = read_records(file.name)
        try:
            others = ours.recv() if ours.poll(bound()) else "nothing"
        except EOFError:
            others = "nothing"
        finish(process, time.monotonic() + bound())
        ours.close()
        source.close()
        source = None
        if (mine, others) == (RECORDS, RECORDS):
            return None
        return Damage("missed", f"of {RECORDS} records in order the parent found {mine}, "
                                f"the child {others}")

    with tempfile.NamedTemporaryFile() as file:
        for i in range(RECORDS):
            file.write(i.to_bytes(8, "little"))
        file.flush()
        scene.each(once)


# ---- ends that leak


def read_to_end(connection, unneeded=None):
    if unneeded is not None:  # as a child of fork does that is well made
        unneeded.close()
    try:
        while True:
            connection.recv_bytes()
    except EOFError:
        pass


def wait_for_word(connection):
    connection.poll(None)


@case(4, "py-pipe-end", "a write end leaked: the reader sees no end", 5, 40)
def pipe_end(scene):
    def once(_):
        reader, writer = scene.context.Pipe(duplex=False)
        told, tell = scene.context.Pipe(duplex=False)
        consumer = scene.start(read_to_end, reader, *([writer] if scene.forks else []))
        worker = scene.start(wait_for_word, told)  # knows nothing of the other
        reader.close()
        writer.send_bytes(b"data")
        writer.close()
        end = finish(consumer, time.monotonic() + bound(0.5))
        tell.send_bytes(b"end")
        finish(worker, time.monotonic() + bound())
        told.close()
        tell.close()
        if end.code == 0:
            return None
        return Damage("no end", f"the consumer {end} though the parent had closed")

    scene.each(once)


@case(4, "py-listener", "a listening socket leaked: port is taken", 10, 50)
def listener(scene):
    def once(_):
        server = socket.create_server(("127.0.0.1", 0))
        address = server.getsockname()
        told, tell = scene.context.Pipe(duplex=False)
        worker = scene.start(wait_for_word, told)
        server.close()
        error = None
        try:
            socket.create_server(address).close()
        except OSError as e:
            error = e.strerror
        tell.send_bytes(b"end")
        finish(worker, time.monotonic() + bound())
        told.close()
        tell.close()
        return Damage("taken", f"listening anew on the port: {error}") if error else None

    scene.each(once)


# ---- epoll

loop = None


def clean_up():
    """What a worker does that was told not to keep the connections of its parent."""
    if loop is not None:
        for key in list(loop.get_map().values()):
            loop.unregister(key.fileobj)


@case(4, "py-epoll", "an epoll set: the child ends a watch", 10, 50)
def epoll(scene):
    def once(_):
        global loop
        ours, theirs = socket.socketpair()
        with ours, theirs, selectors.EpollSelector() as loop:
            loop.register(ours, selectors.EVENT_READ)
            scene.run(clean_up)
            theirs.send(b"x")
            events = loop.select(0.1)
        loop = None
        return None if events else Damage("no event", "the parent's selector is silent, "
                                                      "its socket has a byte")

    scene.each(once)


if __name__ == "__main__":
    main()
