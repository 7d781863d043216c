"""The package of a wheel in a process that also has gRPC and the full protobuf of the system.

    beside_grpc.py USE_GRPC first|second global|local

USE_GRPC is a module of ../modules; it is loaded and used before the package or after it, twice
round, with the symbols of both for all or for each alone.
"""

import ctypes
import os
import sys

path, order, scope = sys.argv[1:]
mode = os.RTLD_GLOBAL if scope == "global" else os.RTLD_LOCAL
sys.setdlopenflags(os.RTLD_NOW | mode)


def use_package():
    import cleanfork.subprocess
    assert cleanfork.subprocess.check_output(["echo", "here"]) == b"here\n"


def use_grpc():
    use = ctypes.CDLL(path, mode).use_it
    use.restype = ctypes.c_char_p
    wrong = use()
    assert wrong is None, wrong


steps = [use_grpc, use_package] if order == "first" else [use_package, use_grpc]
for step in steps * 2:
    step()
with open("/proc/self/maps") as file:
    assert "/libprotobuf.so" in file.read(), "the full protobuf is not there"
