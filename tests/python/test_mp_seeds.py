"""Random numbers in the children of a template: those seeded by an import on purpose are as
under spawn, all others are drawn anew."""

import importlib.util
import unittest

from mp_support import Programs


class Seeds(Programs):
    def same_in_children(self, expected, imports, draw, warm=1):
        """How many results three children have, and whether the program has the same."""
        self.prints(f"""
            import cleanfork
            {imports}
            def work(): return {draw}
            if __name__ == "__main__":
                with cleanfork.get_context(warm={warm}).Pool(3, maxtasksperchild=1) as pool:
                    got = [pool.apply(work) for _ in range(3)]
                print(len(set(got)), got[0] == work())
            """, expected)

    def test_a_seed_of_the_main_module_stays(self):
        for warm in 0, 2:
            self.same_in_children("1 True", "import random; random.seed(42)", "random.random()",
                                  warm)
        self.same_in_children("1 True", "from random import seed, random; seed(42); random()",
                              "random()")
        self.same_in_children("1 True", "import random; r = random.Random(7)", "r.random()")
        self.same_in_children(
            "1 True", "import random; random.setstate(random.Random(7).getstate())",
            "random.random()")

    def test_what_came_from_the_system_is_drawn_anew(self):
        for imports in ("import random; random.random()",
                        "import random; random.seed(42); random.seed()",
                        "import random; s = random.getstate(); random.seed(42); random.setstate(s)"):
            self.same_in_children("3 False", imports, "random.random()")
        self.same_in_children("3 False", "import random; r = random.Random()", "r.random()")
        self.same_in_children("3 False", "import random; r = random.SystemRandom()", "r.random()")

    @unittest.skipIf(importlib.util.find_spec("numpy") is None, "numpy is not installed")
    def test_numpy_alike(self):
        numpy = "import numpy.random as n; "
        for imports, draw in (("n.seed(42)", "n.rand()"), ("n.seed(42); n.rand(5000)", "n.rand()"),
                              ("r = n.default_rng(5)", "r.random()"),
                              ("r = n.RandomState(5)", "r.normal()")):
            self.same_in_children("1 True", numpy + imports, draw)
        for imports, draw in (("", "n.rand()"), ("n.rand(5000)", "n.rand()"),
                              ("n.seed()", "n.rand()"), ("n.seed(42); n.seed(None)", "n.rand()"),
                              ("r = n.default_rng()", "r.random()"),
                              ("r = n.default_rng()", "r.bit_generator._seed_seq.entropy"),
                              ("r = n.RandomState(); r.normal()", "r.normal()"),
                              ("r = n.Generator(n.Philox())", "r.random()")):
            self.same_in_children("3 False", numpy + imports, draw)

    def test_the_module_is_as_it_was(self):
        self.prints("""
            import cleanfork, random, secrets
            def work():
                print(random.seed.__func__ is random.Random.seed, random.Random.seed.__module__,
                      random.setstate.__func__.__qualname__, secrets.randbits.__self__.__class__,
                      flush=True)
            if __name__ == "__main__":
                p = cleanfork.get_context().Process(target=work); p.start(); p.join()
            """, "True random Random.setstate <class 'random.SystemRandom'>")

    def test_a_node_that_was_drawn_is_drawn_anew(self):
        self.prints("""
            import cleanfork, uuid
            if __name__ != "__main__":
                uuid._node = uuid._random_getnode()
                drawn = uuid._node
            def work(): return uuid._node == drawn
            if __name__ == "__main__":
                with cleanfork.get_context().Pool(1) as pool: print(pool.apply(work))
            """, "False")


if __name__ == "__main__":
    unittest.main()
