"""Figures as files: their formats, and that a figure is the same file each time."""

import numpy as np
import pytest
from pandas import DataFrame

from spaces.drawing import Drawing, new_figure, pixel_table, save


def drawing():
    figure = new_figure(3, 2)
    axis = figure.subplots()
    axis.plot([0, 1], [1 / 3, 2 / 3])
    axis.fill_between([0, 1], [0, 0], [1, 1], alpha=0.5)
    axis.set_clip_path(axis.patch)  # an element with an identifier
    axis.set_title("a title")
    return Drawing(figure, DataFrame({"x": [0, 1], "y": [1 / 3, 2 / 3]}))


def test_a_figure_is_written_in_the_formats_that_are_asked_for(tmp_path):
    save({"one": drawing}, tmp_path / "all")
    assert {path.name for path in (tmp_path / "all").iterdir()} == {"one.png", "one.svg", "one.csv"}
    save({"one": drawing}, tmp_path / "some", ["csv"])
    assert [path.name for path in (tmp_path / "some").iterdir()] == ["one.csv"]
    assert (tmp_path / "some" / "one.csv").read_text() == "x,y\n0,0.333333\n1,0.666667\n"


def test_the_same_figure_is_the_same_file_and_its_words_are_words(tmp_path):
    for place in ("a", "b"):
        save({"one": drawing}, tmp_path / place)
    for name in ("one.svg", "one.csv", "one.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    svg = (tmp_path / "a" / "one.svg").read_text()
    assert ">a title</text>" in svg
    assert "dc:date" not in svg


@pytest.mark.parametrize(
    ("channels", "columns"),
    [(1, ["value"]), (2, ["value_0", "value_1"]), (3, ["value_red", "value_green", "value_blue"])],
)
def test_pixels_are_a_row_each_with_a_column_for_each_channel(channels, columns):
    stack = np.arange(2 * channels * 2 * 3).reshape(2, channels, 2, 3)
    table = pixel_table({"name": ["a", "b"], "x": [0.5, -0.5]}, value=stack)
    assert list(table) == ["name", "x", "row", "column", *columns]
    assert len(table) == 2 * 2 * 3
    (one,) = table.query("name == 'b' and row == 1 and column == 2").to_dict("records")
    assert one == {"name": "b", "x": -0.5, "row": 1, "column": 2} | dict(zip(columns, stack[1, :, 1, 2], strict=True))
