"""All that training uses of torch beyond its public API; written for torch 2.15."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch

COMPILER = "torch._dynamo"


@contextmanager
def without_compiler() -> Iterator[None]:
    """While active, optimizers do not import torch's compiler: 5 CPU seconds and 140 MB, for a process that compiles nothing.

    They import it to say that it shall leave them alone. Does nothing where it is loaded already.
    """
    if COMPILER in sys.modules:
        yield
        return
    stand_in = ModuleType(COMPILER)
    stand_in.__dict__.update(disable=_as_it_is, graph_break=lambda: None)
    sys.modules[COMPILER] = torch._dynamo = stand_in
    try:
        yield
    finally:
        del sys.modules[COMPILER], torch._dynamo


def _as_it_is(function: Any, *options: Any, **named: Any) -> Any:
    return function
