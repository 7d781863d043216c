"""The text of a program whose orphan has another session, and so no parent or group in common.

It writes the orphan's pid, and both stay until they are ended.
"""

import textwrap

ORPHAN = textwrap.dedent("""
    import os, signal
    middle = os.fork()
    if middle == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(1, b"%d\\n" % os.getpid())
            signal.pause()
        os._exit(0)
    os.waitpid(middle, 0)
    signal.pause()
""")
