"""Random states that the imports of a template made.

One that was seeded on purpose is the same in each child, as if the child had done the import
itself. One that came from the system is drawn anew: no two children have the same.
"""

from __future__ import annotations

import gc
import random
import secrets
import sys
import weakref
from typing import Any

from cleanfork import _compat

_MOST_BLOCKS = 1024  # of 624 numbers, that imports may have drawn from numpy's global state


class Seeds:
    """Made before the imports, which it watches until imported()."""

    def __init__(self) -> None:
        self._drawn: set[int] = set()  # entropy of the system, which numpy asks for
        self._from_system: dict[int, bool] = {}  # by id: each Random that was seeded last so
        self._made: dict[int, weakref.ref[Any]] = {}
        self._states: dict[int, bool] = {}  # by hash: of which origin a state was that was read
        self._kept: Any = None  # of the module random
        self._fresh: list[weakref.ref[Any]] = []
        self._numpy_states: list[Any] = []
        self._numpy_generators: list[Any] = []
        self._watch()

    def _watch(self) -> None:
        kind: Any = random.Random
        self._methods = seed, getstate, setstate = kind.seed, kind.getstate, kind.setstate
        self._randbits = secrets.randbits

        def watched_seed(rng: Any, a: Any = None, version: int = 2) -> None:
            seed(rng, a, version)
            self._note(rng, a is None)

        def watched_getstate(rng: Any) -> Any:
            state = getstate(rng)
            self._states[hash(state)] = self._from_system.get(id(rng), rng is _global())
            return state

        def watched_setstate(rng: Any, state: Any) -> None:
            setstate(rng, state)
            self._note(rng, self._states.get(hash(getstate(rng)), False))

        def watched_randbits(k: int) -> int:
            value = self._randbits(k)
            self._drawn.add(value)
            return value

        secrets.randbits = watched_randbits
        self._set_methods(watched_seed, watched_getstate, watched_setstate)

    def _set_methods(self, *methods: Any) -> None:
        for name, method in zip(("seed", "getstate", "setstate"), methods):
            setattr(random.Random, name, method)
            setattr(random, name, getattr(_global(), name))

    def _note(self, rng: Any, from_system: bool) -> None:
        if not isinstance(rng, random.SystemRandom):
            self._from_system[id(rng)] = from_system
            self._made[id(rng)] = weakref.ref(rng)

    def imported(self) -> None:
        self._set_methods(*self._methods)
        secrets.randbits = self._randbits
        if not self._from_system.get(id(_global()), True):
            self._kept = random.getstate()
        self._fresh = [made for of, made in self._made.items()
                       if self._from_system[of] and made() not in (None, _global())]
        if "numpy.random" in sys.modules:
            self._look_at_numpy(sys.modules["numpy.random"])
        self._drawn.clear()
        self._from_system.clear()
        self._made.clear()
        self._states.clear()

    def _look_at_numpy(self, module: Any) -> None:
        source: Any = sys.modules.get("numpy.random.bit_generator")
        if hasattr(source, "randbits"):
            source.randbits = self._randbits
        everything = gc.get_objects()
        generators = [each for each in everything if issubclass(type(each), module.BitGenerator)
                      and self._is_from_system(module, each)]
        mine = set(map(id, generators))
        for each in everything:
            if type(each) is module.RandomState and id(each._bit_generator) in mine:
                if type(each._bit_generator) is module.MT19937:
                    self._numpy_states.append(each)  # it has a number besides its generator's
                    mine.remove(id(each._bit_generator))
        self._numpy_generators = [each for each in generators if id(each) in mine]

    def _is_from_system(self, module: Any, generator: Any) -> bool:
        sequence = getattr(generator, "seed_seq", None) or getattr(generator, "_seed_seq", None)
        if sequence is not None:
            entropy = getattr(sequence, "entropy", None)
            return isinstance(entropy, int) and entropy in self._drawn
        # By seed(), of old: with a number, or without, and then of a sequence that is gone.
        return (type(generator) is module.MT19937
                and any(_begins(module, entropy, generator) for entropy in self._drawn))

    def in_child(self) -> None:
        # The module random has a new state already: it sees to that itself, at each fork.
        if self._kept is not None:
            random.setstate(self._kept)
        for made in self._fresh:
            rng = made()
            if rng is not None:
                rng.seed()
        for state in self._numpy_states:
            state.seed()
        for generator in self._numpy_generators:
            generator.__init__()
        _compat.forget_drawn_node()


def _global() -> Any:
    return _compat.global_random()


def _begins(module: Any, entropy: int, generator: Any) -> bool:
    """Whether it was seeded with this, and has given not too many numbers since."""
    begun = module.MT19937(module.SeedSequence(entropy))
    key = generator.state["state"]["key"]
    for _ in range(_MOST_BLOCKS):
        if (begun.state["state"]["key"] == key).all():
            return True
        begun.random_raw(624, output=False)
    return False
