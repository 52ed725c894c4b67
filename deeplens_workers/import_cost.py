"""Importing a package without heavy modules that it imports but that are hardly ever used here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any


@contextmanager
def placeholders(*names: str) -> Iterator[None]:
    """While active, importing one of the named modules gives a placeholder that imports the real one when it is used.

    Modules that are loaded already stay, and afterwards the names import the real modules again. What is taken from a placeholder
    while it is active (`from module import function`) is a function that calls the real one.
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

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            return sys.modules.get(f"{self.__name__}.{name}") or _later(self.__name__, name)
        return getattr(import_module(self.__name__), name)


def _later(module: str, name: str) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        return getattr(import_module(module), name)(*args, **options)

    return call
