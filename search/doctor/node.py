"""A node of a Ray cluster as the driver knows it. Needs no Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from search.doctor.facts import Facts


@dataclass(frozen=True)
class Clock:
    """How far a node's clock is ahead of the driver's, give or take `error`, in seconds."""

    ahead: float
    error: float

    def __str__(self) -> str:
        return f"{self.ahead:+.3f} ± {self.error:.3f}"


@dataclass(frozen=True)
class Node:
    """`resources`: those that Ray has of it. `session`: Ray's directory there. `facts`: None if it gave no answer, and `silence` says why.
    `seen`: whether the driver sees the node's file, by option.
    """

    id: str
    address: str
    host: str
    resources: Mapping[str, float]
    session: str
    facts: Facts | None = None
    silence: str = ""
    clock: Clock | None = None
    seen: Mapping[str, bool] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.address if self.host in ("", self.address) else f"{self.address} ({self.host})"
