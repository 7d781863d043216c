"""CPython's own tests of ProcessPoolExecutor over cleanfork: conformance/futures.py [CLASS...]

The part of test.test_concurrent_futures that is for the method "forkserver", three times as
run.py does it with the suite of multiprocessing.
"""

import sys

from run import compare

# One module up to 3.11, a package of several from then on.
MODULE = """
import importlib
import pkgutil
import unittest
{begin}
suite = importlib.import_module("test.test_concurrent_futures")
modules = [importlib.import_module(suite.__name__ + "." + each.name)
           for each in pkgutil.iter_modules(getattr(suite, "__path__", []))] or [suite]
for module in modules:
    if hasattr(module, "ProcessPoolForkserverMixin"):
        module.ProcessPoolForkserverMixin.ctx = {method!r}

def load_tests(loader, tests, pattern):
    cases = [case for module in modules for name, case in sorted(vars(module).items())
             if name.startswith("ProcessPoolForkserver") and issubclass(case, unittest.TestCase)
             and case.__module__ == module.__name__]
    return unittest.TestSuite(map(loader.loadTestsFromTestCase, cases))
"""

if __name__ == "__main__":
    sys.exit(compare(MODULE, {}))
