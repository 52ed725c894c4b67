"""Inline SVG: elements whose text and attributes are escaped, and the frame of a chart with two axes.

Colours are the style sheet's: elements have classes, so that a chart is right in light, in dark and in print.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from markupsafe import Markup

from results.report.scales import Choices, Scale
from spaces.study import Scalar

WIDTH = 1056.0
"""Of a chart that is as wide as the page's text, in pixels."""
SMALL, SMALL_TICKS = (300.0, 200.0), 4
"""Width and height of a chart among many, and ticks of its axes."""
LETTER = 6.0
"""Mean width of a letter of a tick."""


def element(name: str, *inside: str, **attributes: object) -> Markup:
    """An element with escaped attributes (`class_` is class, `data_trial` is data-trial; None is left out) and content."""
    written = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _text(value))
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{written}>{Markup('').join(inside)}</{name}>")


def picture(width: float, height: float, label: str, parts: Iterable[Markup]) -> Markup:
    """A whole picture, which a screen reader calls by its label."""
    body = Markup("").join(parts)
    return element("svg", body, viewBox=f"0 0 {width:g} {height:g}", role="img", aria_label=label, width=width)


def path(points: Iterable[tuple[float, float]]) -> str:
    """The `d` of a line through points."""
    return "M" + "L".join(f"{x:.1f},{y:.1f}" for x, y in points)


def apart(places: list[float], least: float) -> list[float]:
    """Heights of labels in the same order, moved down where two would overlap."""
    moved, below = list(places), float("-inf")
    for index in sorted(range(len(places)), key=lambda one: places[one]):
        below = moved[index] = max(places[index], below + least)
    return moved


@dataclass(frozen=True, slots=True)
class Frame:
    """A chart's area in pixels, with margins around what is drawn, and its two scales."""

    width: float
    height: float
    x: Scale
    y: Scale
    left: float = 54
    right: float = 16
    top: float = 12
    bottom: float = 42

    @classmethod
    def small(cls, x: Scale, y: Scale) -> Frame:
        """Of a chart among many. It is higher where the values of x are long words, which are written aslant."""
        frame = cls(*SMALL, x, y, left=48, right=20, top=8)
        if not frame.crowded:
            return frame
        more = 0.55 * LETTER * max(len(text) for _, text in x.ticks())
        return replace(frame, height=frame.height + more, bottom=frame.bottom + more)

    @property
    def crowded(self) -> bool:
        """Whether ticks of x would run into each other."""
        ticks = self.x.ticks(SMALL_TICKS)
        longest = LETTER * max((len(label) for _, label in ticks), default=0)
        return longest > (self.width - self.left - self.right) / max(1, len(ticks)) and isinstance(self.x, Choices)

    def across(self, value: Scalar) -> float:
        return self.left + self.x.place(value) * (self.width - self.left - self.right)

    def up(self, value: Scalar) -> float:
        return self.height - self.bottom - self.y.place(value) * (self.height - self.top - self.bottom)

    def at(self, x: Scalar, y: Scalar) -> tuple[float, float]:
        return self.across(x), self.up(y)

    def axes(self, x_title: str, y_title: str = "", most: int = 6, x_ticks: bool = True) -> Markup:
        """Grid, ticks and the axes' names; the y axis has its name above it."""
        right, foot = self.width - self.right, self.height - self.bottom
        parts = []
        for place, label in self.y.ticks(most):
            y = foot - place * (foot - self.top)
            parts.append(element("line", x1=self.left, x2=right, y1=y, y2=y, class_="grid"))
            parts.append(element("text", label, x=self.left - 7, y=y + 3.5, class_="tick end"))
        if x_ticks:
            for place, label in self.x.ticks(most):
                x = self.left + place * (right - self.left)
                parts.append(element("line", x1=x, x2=x, y1=foot, y2=foot + 4, class_="axis"))
                slant = {"class_": "tick end", "transform": f"rotate(-33 {x:.1f} {foot + 13:.1f})"}
                how = slant if self.crowded else {"class_": "tick middle"}
                parts.append(element("text", label, x=x, y=foot + (13 if self.crowded else 16), **how))
        parts.append(element("line", x1=self.left, x2=right, y1=foot, y2=foot, class_="axis"))
        middle = (self.left + right) / 2
        parts.append(element("text", x_title, x=middle, y=self.height - 6, class_="name middle"))
        if y_title:
            parts.append(element("text", y_title, x=4, y=11, class_="name"))
        return Markup("").join(parts)


def _text(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
