"""Tables of a terminal as HTML: what `psf-search analyze` prints is what the page shows, cell by cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

LONG = 32
"""Characters: a longer cell has several lines where there is little room."""


@dataclass(frozen=True, slots=True)
class Data:
    """The numbers behind a chart: rows of cells under their headings."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]

    def html(self, caption: str) -> Markup:
        head = Markup("").join(Markup('<th scope="col">{}</th>').format(one) for one in self.headings)
        return _table(caption, head, [_row(row, [""] * len(row)) for row in self.rows])


def html(renderable: RenderableType | None) -> Markup:
    """Tables, texts and groups of both, as `results.tables` returns them; nothing of None.

    Raises:
        TypeError: something else, which the page has no form for.
    """
    match renderable:
        case None:
            return Markup("")
        case Group():
            return Markup("\n").join(html(one) for one in renderable.renderables)
        case Table():
            return _of_table(renderable)
        case Text() | str():
            lines = str(renderable).splitlines()
            return Markup("\n").join(Markup("<p>{}</p>").format(line) for line in lines if line)
    raise TypeError(f"no HTML for {type(renderable).__name__}")


def _of_table(table: Table) -> Markup:
    sides = ["" if column.justify == "right" else "left" for column in table.columns]
    head = Markup("").join(
        Markup('<th scope="col" class="{}">{}</th>').format(side, str(column.header))
        if str(column.header)
        else Markup("<td></td>")
        for column, side in zip(table.columns, sides, strict=True)
    )
    columns = [list(column.cells) for column in table.columns]
    strong = ["bold" in str(column.style) for column in table.columns]
    rows = []
    for index, row in enumerate(table.rows):
        kinds = ["strong"] if "bold" in str(row.style or "") else []
        if index and table.rows[index - 1].end_section:
            kinds.append("section")
        cells = [column[index] for column in columns]
        classes = [f"{side} strong" if bold else side for side, bold in zip(sides, strong, strict=True)]
        rows.append(_row(cells, classes, " ".join(kinds)))
    note = Markup('<p class="note">{}</p>').format(str(table.caption)) if table.caption else Markup("")
    return _table(str(table.title or ""), head, rows) + note


def _table(caption: str, head: Markup, rows: Sequence[Markup]) -> Markup:
    return Markup(
        '<div class="scroll" data-name="{0}"><table class="data"><caption>{0}</caption>'
        "<thead><tr>{1}</tr></thead><tbody>{2}</tbody></table></div>"
    ).format(caption, head, Markup("\n").join(rows))


def _row(cells: Sequence[RenderableType], classes: Sequence[str], kind: str = "") -> Markup:
    first, *others = cells
    written = Markup('<th scope="row">{}</th>').format(_cell(first))
    for cell, of_column in zip(others, classes[1:], strict=True):
        kinds = [of_column, "strong" if isinstance(cell, Text) and str(cell.style) == "bold" else ""]
        kinds.append("long" if len(str(cell)) > LONG else "")
        written += Markup('<td class="{}">{}</td>').format(" ".join(filter(None, kinds)), _cell(cell))
    return Markup('<tr class="{}">{}</tr>').format(kind, written)


def _cell(cell: RenderableType) -> Markup:
    """A cell's first line; those below it are remarks."""
    first, *others = str(cell).split("\n")
    return Markup("{}").format(first) + Markup("").join(Markup("<br><small>{}</small>").format(one) for one in others)
