"""Scales of axes: where on its axis a value lies, and which values are written there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from results.formatting import number
from spaces.study import Parameter, Scalar

SUBDIVISIONS: tuple[tuple[float, ...], ...] = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7))
"""Of a decade: the finest that does not give too many ticks is taken."""
ROOM = 0.05
"""Of an axis' length: free on either side of what is drawn."""


class Scale(Protocol):
    """One axis: places are 0 at its beginning and 1 at its end."""

    def place(self, value: Scalar) -> float: ...

    def ticks(self, most: int = 5) -> list[tuple[float, str]]:
        """Place and label of each tick, rising, at most so many."""

    def described(self) -> dict[str, Any]:
        """What report.js needs to turn a place into a value: plain JSON values."""


@dataclass(frozen=True, slots=True)
class Linear:
    """From `low` to `high`, which differ; of `whole` numbers only those have ticks."""

    low: float
    high: float
    whole: bool = False

    def place(self, value: Scalar) -> float:
        return (float(value) - self.low) / (self.high - self.low)

    def ticks(self, most: int = 5) -> list[tuple[float, str]]:
        raw = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(power * one for one in (1, 2, 2.5, 5, 10, 20) if power * one >= raw * (1 - 1e-9))
        if self.whole:
            step = max(1.0, math.ceil(step))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        values = (round(index * step, 12) for index in range(first, last + 1))
        return [(self.place(value), number(int(value) if value == int(value) else value)) for value in values]

    def described(self) -> dict[str, Any]:
        return {"kind": "linear", "low": self.low, "high": self.high, "whole": self.whole}


@dataclass(frozen=True, slots=True)
class Log:
    """From `low` to `high` by ratio; both are above zero and differ."""

    low: float
    high: float
    whole: bool = False

    def place(self, value: Scalar) -> float:
        return math.log(float(value) / self.low) / math.log(self.high / self.low)

    def ticks(self, most: int = 5) -> list[tuple[float, str]]:
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        found: list[float] = []
        for of_decade in SUBDIVISIONS:
            finer = [
                value
                for power in decades
                for one in of_decade
                if self.low * (1 - 1e-9) <= (value := one * 10.0**power) <= self.high * (1 + 1e-9)
                and not (self.whole and value != round(value))
            ]
            if len(finer) > most:
                break
            found = finer
        if len(found) < 2:  # a part of a decade, or very many of them
            return self._between(most) if len(decades) <= most else self._decades(decades, most)
        return [(self.place(value), number(_plain(value))) for value in found]

    def _between(self, most: int) -> list[tuple[float, str]]:
        of_range = Linear(self.low, self.high, self.whole)
        values = (self.low + place * (self.high - self.low) for place, _ in of_range.ticks(most))
        return [(self.place(value), label) for value, (_, label) in zip(values, of_range.ticks(most), strict=True)]

    def _decades(self, decades: range, most: int) -> list[tuple[float, str]]:
        every = math.ceil(len(decades) / most)
        values = [10.0**power for power in decades[::every] if self.low <= 10.0**power <= self.high]
        return [(self.place(value), number(_plain(value))) for value in values]

    def described(self) -> dict[str, Any]:
        return {"kind": "log", "low": self.low, "high": self.high, "whole": self.whole}


@dataclass(frozen=True, slots=True)
class Choices:
    """Values side by side, in their order."""

    values: tuple[Scalar, ...]

    def place(self, value: Scalar) -> float:
        return (self.values.index(value) + 0.5) / len(self.values)

    def ticks(self, most: int = 5) -> list[tuple[float, str]]:
        return [(self.place(value), number(value)) for value in self.values]

    def described(self) -> dict[str, Any]:
        return {"kind": "choices", "values": [number(value) for value in self.values]}


def of_parameter(parameter: Parameter, whole: bool, values: Iterable[Scalar]) -> Scale:
    """The axis of a hyperparameter: its range, widened to values that a trial of an earlier range had."""
    found = list(values)
    if parameter.choices is not None:
        return Choices((*parameter.choices, *dict.fromkeys(one for one in found if one not in parameter.choices)))
    assert parameter.low is not None
    assert parameter.high is not None
    numbers = [float(one) for one in found if not isinstance(one, str)]
    low, high = min([parameter.low, *numbers]), max([parameter.high, *numbers])
    if low == high:
        return Choices((low,))
    return Log(low, high, whole) if parameter.log and low > 0 else Linear(low, high, whole)


def around(values: Sequence[float], log: bool) -> Linear | Log:
    """An axis with some room around finite values; logarithmic if asked for and all are above zero."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if log and low > 0:
        room = (high / low) ** ROOM if high > low else 1.5
        return Log(low / room, high * room)
    room = ROOM * (high - low) or abs(high) / 2 or 1.0
    return Linear(low - room, high + room)


def _plain(value: float) -> float | int:
    return int(value) if value == round(value) and abs(value) < 1e5 else value
