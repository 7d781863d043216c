"""Group 5 in Python: pooled connections, which a fork makes those of two processes."""

import http.client
import http.server
import threading
import time

from py_support import Damage, bound, case, finish, main


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with the path of the request."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer is one packet

    def do_GET(self):
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


connection = None  # kept alive, made at the first use


def get_many(port, who):
    """What went wrong, or nothing."""
    global connection
    if connection is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=bound(0.5))
    for i in range(50):
        path = f"/{who}/{i}"
        try:
            connection.request("GET", path)
            body = connection.getresponse().read().decode()
        except (OSError, ValueError, http.client.HTTPException) as e:
            return f"{path} gave {type(e).__name__}"
        if body != path:
            return f"{path} gave {body}"
    return ""


def send_outcome(pipe, port):
    pipe.send(get_many(port, "child"))


@case(5, "py-http", "a keep-alive HTTP connection, used by both", 5, 40)
def keep_alive(scene):
    def once(_):
        global connection
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=bound(0.5))
        connection.connect()
        ours, theirs = scene.context.Pipe()
        process = scene.start(send_outcome, theirs, port)
        theirs.close()
        mine = get_many(port, "parent")
        try:
            others = ours.recv() if ours.poll(bound()) else "no outcome"
        except EOFError:
            others = "no outcome"
        finish(process, time.monotonic() + bound())
        ours.close()
        connection.close()
        connection = None
        if mine or others:
            return Damage("mixed up", f"the parent: {mine or 'well'}; "
                                      f"the child: {others or 'well'}")
        return None

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.daemon_threads, server.block_on_close = True, False
    port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    scene.each(once)
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    main()
