"""Tables for terminals of any width: no number and no word is cut."""

from __future__ import annotations

from copy import copy

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import TextType

WIDEST = 10_000
"""Characters: wider than any table."""


class NarrowTable(Table):
    """A table that leaves out columns, the last first, until each word of the others has room; the caption has their names."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from super(NarrowTable, self.narrowed(console, options)).__rich_console__(console, options)

    def narrowed(self, console: Console, options: ConsoleOptions) -> NarrowTable:
        """The table of the columns that fit."""
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


class ContinuedTable(Table):
    """A table whose columns that have no room go on below, beside the first one again. Its rows have no styles and no sections."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        first, rest = self.columns[0], self.columns[1:]
        title = self.title
        while True:
            part = self._of([first, *rest], title)
            fit = max(1, len(part.narrowed(console, options).columns) - 1)
            last = fit >= len(rest)
            part = self._of([first, *rest[:fit]], title)
            part.caption = self.caption if last else None
            yield part
            if last:
                return
            rest, title = rest[fit:], None
            yield ""

    def _of(self, columns: list[Column], title: TextType | None) -> NarrowTable:
        part = NarrowTable(
            title=title,
            title_justify=self.title_justify,
            title_style=self.title_style,
            caption_style=self.caption_style,
            caption_justify=self.caption_justify,
            box=self.box,
            pad_edge=self.pad_edge,
        )
        for column in columns:
            part.add_column(column.header, justify=column.justify, style=column.style, no_wrap=column.no_wrap)
        for cells in zip(*(column.cells for column in columns), strict=True):
            part.add_row(*cells)
        return part


def _measured(column: Column, console: Console, options: ConsoleOptions) -> Measurement:
    found = [Measurement.get(console, options, cell) for cell in (column.header, *column.cells, column.footer)]
    most = column.width or max(one.maximum for one in found)
    return Measurement(most if column.no_wrap else max(one.minimum for one in found), most)
