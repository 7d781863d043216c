"""A low limit of descriptors: processes start, or the exception says what is short."""

import unittest

from support import run_python

PROGRAM = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]),) * 2)
import cleanfork
try:
    cleanfork.start()
    if sys.argv[2] == "subprocess":
        print(cleanfork.subprocess.run(["true"]).returncode)
    else:
        p = cleanfork.get_context().Process(target=print)
        p.start()
        p.join()
        print(p.exitcode)
except Exception as e:
    text = f"{e} {e.__cause__}"
    print("told" if "EMFILE" in text and "RLIMIT_NOFILE" in text or isinstance(e, OSError)
          and e.errno == 24 else repr(e))
"""


class Descriptors(unittest.TestCase):
    def outcomes(self, kind, limits):
        return {limit: run_python(PROGRAM, str(limit), kind).stdout.split()[-1:]
                for limit in limits}

    def assert_told_or_worked(self, outcomes, enough):
        for limit, outcome in outcomes.items():
            self.assertIn(outcome, (["0"], ["told"]), f"limit {limit}")
            if limit >= enough:
                self.assertEqual(outcome, ["0"], f"limit {limit}")

    def test_of_subprocesses(self):
        self.assert_told_or_worked(self.outcomes("subprocess", range(14, 33, 2)), 24)

    def test_of_processes(self):
        self.assert_told_or_worked(self.outcomes("process", range(14, 41, 2)), 32)


if __name__ == "__main__":
    unittest.main()
