"""Tables on narrow terminals."""

import io

import pytest
from rich.console import Console

from results.narrow_table import NarrowTable
from results.tables import analysis


def shown(what, width):
    out = io.StringIO()
    Console(file=out, width=width).print(what)
    return out.getvalue()


def table():
    made = NarrowTable(box=None, pad_edge=False, caption="All of them.")
    for header in ("name", "reason", "value", "seconds"):
        made.add_column(header)
    made.add_row("trial-1", "stopped for its rank at the rung", "0.12345", "12345.6")
    return made


@pytest.mark.parametrize(
    ("width", "left_out"), [(100, []), (50, []), (30, ["seconds"]), (20, ["value", "seconds"]), (8, ["reason"])]
)
def test_what_has_no_room_is_left_out_and_named(width, left_out):
    text = shown(table(), width)
    assert "…" not in text
    for header, cell in (("value", "0.12345"), ("seconds", "12345.6")):
        if width > 8:
            assert (cell in text) == (header not in left_out)
    assert ("No room for" in " ".join(text.split())) == bool(left_out)


@pytest.mark.parametrize("width", [40, 60, 80])
def test_no_table_of_a_run_cuts_a_number(make_run, width):
    text = shown(analysis(make_run(trials=30)), width)
    assert "…" not in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
