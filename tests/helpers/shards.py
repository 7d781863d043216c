"""A part of the tests of a module: load_tests() takes those that CLEANFORK_TEST_SHARD says.

"2/3" is the second of three parts; without it all tests run. Tests of different parts run at
the same time, in processes of their own.
"""

import os
import unittest


def flat(suite):
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            yield from flat(each)
        else:
            yield each


def load_tests(loader, tests, pattern):
    shard, shards = map(int, os.environ.get("CLEANFORK_TEST_SHARD", "1/1").split("/"))
    # In turn, since what takes long is often in one class.
    return unittest.TestSuite(list(flat(tests))[shard - 1::shards])
