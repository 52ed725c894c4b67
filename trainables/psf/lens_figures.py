"""Drawings of a lens: its section with rays; spots, distortion and relative illumination. Drawn without a display."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from deeplens_workers.lens_view import DRAWN_FIELDS, LensView, Spot
from trainables.psf.figures import GREY, INK

FIELD_COLOURS = ("#2f6fb0", "#3a9a5b", "#c8503c")
SUFFIXES = (".png", ".svg")


def save_section(stem: Path, view: LensView) -> list[Path]:
    """The lens cut through its axis, with a fan of rays of three fields."""
    section = view.section
    figure = Figure(figsize=(9, 4.5), layout="constrained")
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
    return _saved(figure, stem)


def save_analysis(stem: Path, view: LensView) -> list[Path]:
    """Spot diagrams above; distortion, relative illumination and RMS spot radius over the image height below."""
    figure = Figure(figsize=(9, 6.5), layout="constrained")
    axes = figure.subplots(2, 3)
    reach = max(float(np.abs(hits).max()) for spot in view.spots for hits in spot.hits.values() if len(hits))
    for one, spot in zip(axes[0], view.spots, strict=True):
        _draw_spot(one, spot, reach)
    curves = view.curves
    below = (
        (100 * curves.distortion, "distortion in %"),
        (100 * curves.illumination, "relative illumination in %"),
        (curves.rms_um, "RMS spot radius in um"),
    )
    for one, (values, title) in zip(axes[1], below, strict=True):
        one.plot(curves.height_mm, values, color=INK)
        one.set(xlabel="image height in mm", title=title)
        _plain(one)
    axes[1][1].set_ylim(0, 105)
    axes[1][2].set_ylim(bottom=0)
    figure.suptitle(view.name)
    return _saved(figure, stem)


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


def _saved(figure: Figure, stem: Path) -> list[Path]:
    FigureCanvasAgg(figure)
    paths = [stem.with_name(stem.name + suffix) for suffix in SUFFIXES]
    for path in paths:
        figure.savefig(path, dpi=130)
    return paths
