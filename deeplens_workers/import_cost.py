"""Importing a package without heavy modules that it imports but that are not used here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def placeholders(*names: str) -> Iterator[None]:
    """While active, importing one of the named modules gives an empty one whose attributes are None.

    Modules that are loaded already stay, and afterwards the names import the real modules again.
    """
    stand_ins = {name: _Placeholder(name) for name in names if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name in stand_ins:
            del sys.modules[name]


class _Placeholder(ModuleType):
    __path__: list[str] = []  # makes it a package, so that its submodules are looked up in sys.modules

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)
