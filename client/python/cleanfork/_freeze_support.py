"""Where a frozen program that was started again becomes the template."""

from __future__ import annotations

import sys

from cleanfork._frozen import was_asked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["freeze_support"]


def freeze_support() -> None:
    """The first statement under ``if __name__ == "__main__":`` of a program that is to be frozen.

    In the template it does not return; what the main module has defined is there. Otherwise it is
    multiprocessing.freeze_support(), which does as much once cleanfork has been imported.
    """
    _become_template()
    import multiprocessing

    multiprocessing.freeze_support()


def _become_template() -> None:
    if was_asked():
        from cleanfork import template

        del sys.argv[1]
        sys.exit(template.main())


def supporting(stock: Callable[..., None]) -> Callable[..., None]:
    """multiprocessing's function for it, with ours before."""
    def support(*arguments: object) -> None:
        _become_template()
        stock(*arguments)

    return support
