"""Parts of a module's tests are all of them together, and none twice."""

import os
import unittest
from unittest import mock

import shards


def load_some():
    class Some(unittest.TestCase):
        pass
    for i in range(7):
        setattr(Some, f"test_{i}", lambda self: None)
    return unittest.TestSuite([unittest.defaultTestLoader.loadTestsFromTestCase(Some)])


def names(part):
    with mock.patch.dict(os.environ, {"CLEANFORK_TEST_SHARD": part}):
        return [test.id().rpartition("_")[2] for test in
                shards.load_tests(unittest.defaultTestLoader, load_some(), None)]


class Shards(unittest.TestCase):
    def test_each_test_is_in_one_of_them(self):
        parts = [names(f"{i}/3") for i in (1, 2, 3)]
        self.assertEqual(parts, [["0", "3", "6"], ["1", "4"], ["2", "5"]])

    def test_one_of_one_is_all(self):
        self.assertEqual(names("1/1"), list("0123456"))


if __name__ == "__main__":
    unittest.main()
