"""Drawings of a lens: its section with rays; spots, distortion and relative illumination."""

from __future__ import annotations

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from pandas import DataFrame, concat

from deeplens_workers.lens_view import DRAWN_FIELDS, LensView, Spot
from spaces.drawing import BLUE, GREEN, GREY, INK, VERMILION, Drawing, Figures, new_figure

FIELD_COLOURS = (BLUE, GREEN, VERMILION)


def lens_figures(view: LensView) -> Figures:
    """What draws each figure of a lens, by name."""
    return {"layout": partial(section_figure, view), "spots": partial(analysis_figure, view)}


def section_figure(view: LensView) -> Drawing:
    """The lens cut through its axis, with a fan of rays of three fields."""
    section = view.section
    figure = new_figure(9, 4.5, layout="constrained")
    axes = figure.add_subplot()
    for field, colour, rays in zip(DRAWN_FIELDS, FIELD_COLOURS, section.rays, strict=True):
        for number, ray in enumerate(rays):
            label = f"field {field:g}" if number == 0 else None
            axes.plot(*ray.T, color=colour, linewidth=0.6, label=label)
    for line in (*section.profiles, *section.edges):
        axes.plot(*line.T, color=INK, linewidth=1.2)
    for line in section.stop:
        axes.plot(*line.T, color=INK, linewidth=2.5)
    axes.plot(*section.sensor.T, color=GREY, linewidth=2.5)
    axes.set_aspect("equal")
    axes.set(xlabel="z in mm", ylabel="height in mm", title=view.name)
    axes.legend(loc="lower left", fontsize="small", frameon=False, title="of the half-diagonal")
    _plain(axes)
    parts = {
        "ray": [ray for rays in section.rays for ray in rays],
        "surface": section.profiles,
        "edge": section.edges,
        "stop": section.stop,
        "sensor": [section.sensor],
    }
    lines = [
        DataFrame({"part": part, "line": number, "z_mm": line[:, 0], "height_mm": line[:, 1]})
        for part, some in parts.items()
        for number, line in enumerate(some, 1)
    ]
    return Drawing(figure, concat(lines, ignore_index=True))


def analysis_figure(view: LensView) -> Drawing:
    """Spot diagrams above; distortion, relative illumination and RMS spot radius over the image height below."""
    figure = new_figure(9, 6.5, layout="constrained")
    axes = figure.subplots(2, 3)
    reach = max(float(np.abs(hits).max()) for spot in view.spots for hits in spot.hits.values() if len(hits))
    for one, spot in zip(axes[0], view.spots, strict=True):
        _draw_spot(one, spot, reach)
    curves = view.curves
    below: dict[str, NDArray[np.float64]] = {
        "distortion in %": 100 * curves.distortion,
        "relative illumination in %": 100 * curves.illumination,
        "RMS spot radius in um": curves.rms_um,
    }
    for one, (title, values) in zip(axes[1], below.items(), strict=True):
        one.plot(curves.height_mm, values, color=INK)
        one.set(xlabel="image height in mm", title=title)
        _plain(one)
    axes[1][1].set_ylim(0, 105)
    axes[1][2].set_ylim(bottom=0)
    figure.suptitle(view.name)
    spots = [
        DataFrame({"panel": f"field {spot.field:g}", "wavelength_um": wave, "x": hits[:, 0], "y": hits[:, 1]})
        for spot in view.spots
        for wave, hits in spot.hits.items()
    ]
    lines = [DataFrame({"panel": title, "x": curves.height_mm, "y": values}) for title, values in below.items()]
    return Drawing(figure, concat([*spots, *lines], ignore_index=True))


def _draw_spot(axes: Axes, spot: Spot, reach: float) -> None:
    waves = sorted(spot.hits, reverse=True)
    for wave in waves:
        rank = waves.index(wave) / max(1, len(waves) - 1)
        colour = (0.8 * (1 - rank), 0.25 + 0.3 * (0.5 - abs(rank - 0.5)), 0.85 * rank)
        axes.plot(*spot.hits[wave].T, ".", color=colour, markersize=1.2, label=f"{wave:g} um")
    axes.set_xlim(-1.05 * reach, 1.05 * reach)
    axes.set_ylim(-1.05 * reach, 1.05 * reach)
    axes.set_aspect("equal")
    axes.set(title=f"field {spot.field:g}, RMS {spot.rms_um:.3g} um", xlabel="um")
    axes.legend(fontsize="x-small", frameon=False, markerscale=6)
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
