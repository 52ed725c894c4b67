"""How numbers, times and intervals are written in tables and in the model's card, and what a table looks like."""

from __future__ import annotations

import math
from collections.abc import Iterable

from rich.table import Table

from results.comparison import Interval
from results.narrow_table import NarrowTable


def number(value: object) -> str:
    """A value in at most 9 characters where it is a number: four digits, `1e-04` written `1e-4`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or not math.isfinite(value):
        return str(value)
    text = f"{value:.4g}" if 1e-3 <= abs(value) < 1e5 or value == 0 else f"{value:.2e}"
    mantissa, e, exponent = text.partition("e")
    if not e:
        return text
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{mantissa}e{int(exponent)}"


def duration(seconds: float) -> str:
    """`4.2 s`, `3 min 07 s`, `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def megabytes(size: int) -> str:
    """Size in bytes as MB (10^6), with at most two decimals: models differ by more."""
    megabytes = size / 1e6
    return f"{megabytes:.{0 if megabytes >= 100 else 1 if megabytes >= 10 else 2}f}"


def microseconds(seconds: float) -> str:
    """A time of up to a second in at most 6 characters."""
    time = 1e6 * seconds
    return f"{time:.0f}" if time >= 100 else f"{time:.3g}"


def decimals(intervals: Iterable[Interval]) -> int:
    """Decimals that give the narrowest interval's half-width two digits, within six digits for the largest number."""
    intervals = list(intervals)
    halves = [(one.high - one.low) / 2 for one in intervals if one.high > one.low]
    wanted = 1 - math.floor(math.log10(min(halves))) if halves else 4
    largest = max((abs(bound) for one in intervals for bound in (one.low, one.high)), default=0.0)
    return max(0, min(wanted, 6 - len(str(int(largest)))))


def interval(one: Interval, places: int, sign: str = "") -> str:
    """`0.0101 [0.0098, 0.0104]`, the mean alone where the interval is none; with the sign "+" also positive numbers have theirs."""
    if one.low == one.high:
        return f"{one.mean:{sign}.{places}f}"
    return f"{one.mean:{sign}.{places}f} [{one.low:{sign}.{places}f}, {one.high:{sign}.{places}f}]"


def new_table(title: str, first: str, *others: str, kind: type[Table] = NarrowTable) -> Table:
    """An empty table without lines; the first column is of names, the others of numbers."""
    table = kind(title=title, title_justify="left", title_style="bold", caption_style="dim", box=None, pad_edge=False)
    table.caption_justify = "left"
    table.add_column(first, no_wrap=True)
    for other in others:
        table.add_column(other, justify="right")
    return table
