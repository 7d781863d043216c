"""The context "cleanfork" of multiprocessing, and its Process."""

from __future__ import annotations

import multiprocessing.context as _context
import multiprocessing.process as _process
from types import ModuleType
from typing import Any

from cleanfork._errors import StatusUnknown
from cleanfork._mp.protocol import options_of_method

# Attributes of a process that can be given for a context or for one process.
_ATTRIBUTES = frozenset(
    ("env", "cwd", "fds", "stdin", "stdout", "stderr", "rlimits", "nice", "affinity", "cgroup",
     "umask", "oom_score_adj", "scheduling", "lifetime", "process_group", "start_new_session",
     "identity", "ambient_caps", "inheritable_caps", "bounding_caps"))

_ON_ERROR = ("ignore", "warn", "fail")


class CleanforkProcess(_process.BaseProcess):
    """A Process that takes the attributes of its context, and its own as keywords."""

    _start_method = "cleanfork"
    _cleanfork_context: CleanforkContext | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        own = {name: kwargs.pop(name) for name in tuple(kwargs) if name in _ATTRIBUTES}
        super().__init__(*args, **kwargs)
        self._cleanfork_attributes = own

    def __reduce_ex__(self, protocol: Any) -> Any:
        reduced: Any = super().__reduce_ex__(protocol)
        if not isinstance(reduced, tuple):
            return reduced
        made, arguments, *rest = reduced
        if rest and isinstance(rest[0], dict):
            # What is for the start of this process is not for the process.
            rest[0] = {k: v for k, v in rest[0].items() if k != "_cleanfork_attributes"}
        if type(self).__dict__.get("_is_bound"):
            # The context's own class has no name to be found by.
            made, arguments = _new, (CleanforkProcess,)
        return made, arguments, *rest

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        from cleanfork._mp.popen import Popen

        # One that multiprocessing.Process made, by the default start method, has no context.
        context = getattr(process_obj, "_cleanfork_context", None) or registered
        return Popen(process_obj, context)

    @staticmethod
    def _after_fork() -> None:
        pass

    @property
    def exitcode(self) -> int | None:
        """As of the standard class; raises StatusUnknown when nobody can tell any more."""
        base: Any = _process.BaseProcess.exitcode  # super() would not do for "forkserver"'s
        code: int | None = base.fget(self)
        if isinstance(code, StatusUnknown):
            raise code.again()
        return code

    def kill_tree(self) -> None:
        """SIGKILL to it and all its descendants, for ``lifetime=Lifetime(target="tree")``.

        Also after it has ended itself.
        """
        popen = getattr(self, "_popen", None)
        if popen is None:
            raise ValueError("the process has not been started, or is another's child")
        popen.kill_tree()

    @property
    def rusage(self) -> Any:
        """resource.struct_rusage of the process and its children; None until it has ended."""
        popen = getattr(self, "_popen", None)
        return None if popen is None or popen.returncode is None else popen.rusage

    @property
    def spawn_timing(self) -> dict[str, float]:
        """Seconds: "pickle", and "start" until the child had its descriptors and attributes."""
        popen = getattr(self, "_popen", None)
        return {} if popen is None else dict(popen.timing)


def _new(kind: Any) -> Any:
    return kind.__new__(kind)


class CleanforkContext(_context.BaseContext):
    """As the standard contexts; what it was asked for is protocol.Options."""

    _name = "cleanfork"
    Process: Any = CleanforkProcess

    def __init__(self, *, preload: list[str] | tuple[str, ...] = (), main: bool = True,
                 warm: int = 1, unclean: str = "refuse", shared: str | None = None,
                 pickler: str | ModuleType | None = None, logging: bool = False,
                 child_hook: Any = None, die_with_parent: bool = False, **attributes: Any) -> None:
        unknown = set(attributes) - _ATTRIBUTES
        if unknown:
            raise TypeError(f"get_context() has no option {', '.join(sorted(unknown))}")
        if unclean not in ("refuse", "warn"):
            raise ValueError("unclean is 'refuse' or 'warn'")
        if child_hook is not None and not callable(child_hook):
            raise TypeError("argument 'child_hook' must be callable, "
                            f"not {type(child_hook).__name__}")
        if shared is not None and not isinstance(shared, str):
            raise TypeError(f"argument 'shared' must be str, not {type(shared).__name__}")
        self.preload = _names(preload)
        self.on_error = "fail"
        self.main = main
        self.warm = warm
        self.unclean = unclean
        self.shared = shared
        self.pickler: str | None = None
        if pickler is not None:
            self.set_pickler(pickler)
        self.logging = logging
        self.child_hook = child_hook
        self.die_with_parent = die_with_parent
        self.attributes = attributes

    def __reduce__(self) -> Any:
        return _rebuild, (self.__dict__ | {"Process": None},)

    def get_start_method(self, allow_none: bool = False) -> str:
        return self._name

    def set_forkserver_preload(self, module_names: Any, *, on_error: str = "fail") -> None:
        """As of the standard context: what `preload` is from the next start on.

        ``on_error``, as from Python 3.15 on, is about a preload that cannot be imported: "fail",
        which is the default here, "warn" and "ignore".
        """
        if on_error not in _ON_ERROR:
            raise ValueError(f"on_error must be 'ignore', 'warn', or 'fail', not {on_error!r}")
        self.preload = _names(module_names, "module_names")
        self.on_error = on_error

    def set_pickler(self, pickler: str | ModuleType) -> None:
        """As the option `pickler`, from the next start on."""
        from cleanfork._mp import by_value, templates  # noqa: F401 (it knows the main module)

        by_value.use(pickler)
        self.pickler = by_value.used()

    def start(self) -> None:
        """Starts the template now: a preload that fails is told here."""
        from cleanfork._mp import templates

        templates.ensure(self, templates.preparation_data("template"))

    def reload(self) -> None:
        """Imports everything anew, in a new template; processes that run are left alone."""
        from cleanfork._mp import templates

        templates.reload(self)


def _names(names: Any, argument: str = "preload") -> tuple[str, ...]:
    # A string is an iterable of strings as well, of which none is meant.
    if isinstance(names, str) or not all(type(name) is str for name in names):
        raise TypeError(f"{argument} must be a list of strings")
    return tuple(names)


def _rebuild(state: dict[str, Any]) -> CleanforkContext:
    options = ("preload", "main", "warm", "unclean", "shared", "pickler", "logging",
               "child_hook", "die_with_parent")
    made = get_context(**{k: state[k] for k in options}, **state["attributes"])
    made.on_error = state["on_error"]
    return made


def get_context(**options: Any) -> CleanforkContext:
    """A multiprocessing context whose processes come from a template.

    ``preload``: modules the template imports, after the program's own unless ``main`` is
    False (each child imports that then). ``warm``: processes kept forked ahead (0: none). ``unclean``:
    "refuse" (default) a template that has threads or sockets after its imports, or "warn".
    ``shared``: a name, by which programs of one forkserver share a template, if all is the same
    that its imports could see; otherwise it is this program's, and ends with it.
    ``pickler``: a module such as "cloudpickle", or its name: it pickles by value what has no name
    to be found by, such as a lambda, from now on in the whole program.
    ``logging``: log records of the processes are handled by the program, with its handlers; its
    levels of each start hold there.
    ``child_hook(process)`` runs in each child before its target. ``die_with_parent``: all
    processes end with the program, not only daemonic ones. And the attributes env, cwd, fds,
    stdin, stdout, stderr, rlimits, nice, affinity, cgroup, ...
    """
    register()
    if not options:
        return registered
    made = CleanforkContext(**options)
    bound = type("CleanforkProcess", (CleanforkProcess,),
                 {"_cleanfork_context": made, "_is_bound": True})
    made.Process = bound
    return made


# Those of the names "cleanfork" and, once it is installed, "forkserver".
registered = CleanforkContext()
drop_in = CleanforkContext()
options_of_method.update(cleanfork=registered, forkserver=drop_in)


def register() -> None:
    """What "cleanfork" needs of multiprocessing, which has known that name since the import."""
    from cleanfork._mp import tracker

    tracker.install()
