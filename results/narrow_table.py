"""Tables for terminals of any width: no number and no word is cut."""

from __future__ import annotations

from copy import copy

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Column, Table

WIDEST = 10_000
"""Characters: wider than any table."""


class NarrowTable(Table):
    """A table that leaves out columns, the last first, until each word of the others has room; the caption has their names."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from super(NarrowTable, self._narrowed(console, options)).__rich_console__(console, options)

    def _narrowed(self, console: Console, options: ConsoleOptions) -> NarrowTable:
        wide = options.update(width=WIDEST)
        ranges = [_measured(column, console, wide) for column in self.columns]
        between = Table.__rich_measure__(self, console, wide).maximum - sum(one.maximum for one in ranges)
        gap = between / max(1, len(ranges))
        fit = len(ranges)
        while fit > 1 and sum(one.minimum for one in ranges[:fit]) + gap * fit > options.max_width:
            fit -= 1
        widths = [one.maximum for one in ranges[:fit]]
        while sum(widths) + gap * fit > options.max_width:
            spare = [width - one.minimum for width, one in zip(widths, ranges, strict=False)]
            if max(spare) <= 0:
                break
            widths[spare.index(max(spare))] -= 1
        table = copy(self)
        table.columns = [copy(column) for column in self.columns[:fit]]
        for column, width in zip(table.columns, widths, strict=True):
            column.width = width
        if fit < len(ranges):
            names = ", ".join(str(column.header).replace("\n", " ") or "-" for column in self.columns[fit:])
            table.caption = f"{self.caption or ''} No room for: {names}.".lstrip()
        return table


def _measured(column: Column, console: Console, options: ConsoleOptions) -> Measurement:
    found = [Measurement.get(console, options, cell) for cell in (column.header, *column.cells, column.footer)]
    most = column.width or max(one.maximum for one in found)
    return Measurement(most if column.no_wrap else max(one.minimum for one in found), most)
