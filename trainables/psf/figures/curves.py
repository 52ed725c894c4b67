"""Encircled energy and modulation transfer of true kernels and of a model's, at the centre of the field, between, and farthest out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from matplotlib.axes import Axes
from pandas import DataFrame, concat

from spaces.drawing import INK, MODEL, TRUE, VERMILION, Drawing, dress, new_figure
from trainables.psf.field_kernels import FieldKernels
from trainables.psf.mtf import INTERVALS, NYQUIST, mtf
from trainables.psf.shapes import encircled_energy

HEIGHTS = (0.0, 0.7, 1.0)
"""Distances from the centre over the largest."""
RADII = 61
ALL = 0.995
"""Share of the light beyond which a curve of it is not drawn."""


def energy_figure(kernels: FieldKernels) -> Drawing:
    """Share of the light within a radius of the kernel's centroid."""
    shown = _from_centre(kernels)
    radii = torch.linspace(0, shown.true.shape[-1] / 2, RADII, dtype=torch.float64)
    true, generated = (
        encircled_energy(one.double().mean(dim=1), radii).numpy() for one in (shown.true, shown.generated)
    )
    shared = np.minimum(true, generated).min(axis=0) < ALL
    last = min(int(shared.sum()) + 1, RADII)
    tables = [
        DataFrame(
            {
                **{name: float(column[place]) for name, column in shown.keys.items()},
                "radius_um": radii.numpy()[:last] * shown.pixel_um,
                "true": true[place, :last],
                "generated": generated[place, :last],
            }
        )
        for place in range(len(shown.points))
    ]

    def draw(axis: Axes, table: DataFrame) -> None:
        axis.plot(table["radius_um"], table["true"], color=TRUE, linewidth=1.6, label="ray-traced")
        axis.plot(table["radius_um"], table["generated"], "--", color=MODEL, linewidth=1.6, label="generated")
        axis.set_xlim(left=0)
        axis.set_ylim(0, 1.02)

    return _panels(kernels, tables, draw, "Encircled energy", "radius (um)", "share of the light")


def mtf_figure(kernels: FieldKernels) -> Drawing:
    """Contrast of lines over their frequency, tangential and sagittal, up to the Nyquist frequency of the kernel's pixels."""
    shown = _from_centre(kernels)
    frequencies = np.linspace(0, NYQUIST, INTERVALS + 1) * 1000 / shown.pixel_um
    tables = []
    for place, (x, y) in enumerate(zip(shown.x_mm, shown.y_mm, strict=True)):
        azimuth = float(np.arctan2(y, x))  # tangential lines vary along the radius
        columns: dict[str, object] = {name: float(column[place]) for name, column in shown.keys.items()}
        columns["frequency_lp_per_mm"] = frequencies
        for direction, along in (("tangential", azimuth), ("sagittal", azimuth + np.pi / 2)):
            for name, one in (("true", shown.true), ("generated", shown.generated)):
                columns[f"{name}_{direction}"] = mtf(one[place].double().mean(dim=0, keepdim=True), along)[0].numpy()
        tables.append(DataFrame(columns))

    def draw(axis: Axes, table: DataFrame) -> None:
        for direction, colours in (("tangential", (TRUE, VERMILION)), ("sagittal", ("#8a90a0", "#e69f00"))):
            for name, style, colour in zip(("true", "generated"), ("-", "--"), colours, strict=True):
                title = "ray-traced" if name == "true" else name
                column = table[f"{name}_{direction}"]
                axis.plot(
                    table["frequency_lp_per_mm"],
                    column,
                    style,
                    color=colour,
                    linewidth=1.6,
                    label=f"{title}, {direction}",
                )
        axis.set_xlim(0, frequencies[-1])
        axis.set_ylim(0, 1.02)

    return _panels(kernels, tables, draw, "Modulation transfer", "frequency (lp/mm)", "contrast")


def _from_centre(kernels: FieldKernels) -> FieldKernels:
    field = kernels.at_like_distances
    radius = field.radius_mm
    return field.some(np.array([int(np.abs(radius - height * radius.max()).argmin()) for height in HEIGHTS]))


def _panels(
    kernels: FieldKernels,
    tables: list[DataFrame],
    draw: Callable[[Axes, DataFrame], None],
    title: str,
    x: str,
    y: str,
) -> Drawing:
    figure = new_figure(9.6, 3.5, layout="constrained")
    axes = figure.subplots(1, len(tables), sharex=True, sharey=True)
    for axis, table in zip(axes, tables, strict=True):
        draw(axis, table)
        dress(axis, x, y if axis is axes[0] else "")
        axis.grid(color="#e6e8ee", linewidth=0.6)
        axis.set_axisbelow(True)
        axis.set_title(f"({table['x_mm'][0]:.1f}, {table['y_mm'][0]:.1f}) mm", fontsize=9, color=INK)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, frameon=False, loc="outside lower center", ncols=4)
    words = kernels.at_like_distances.title(f"{title}, all channels together")
    figure.suptitle(words, fontsize=10, color=INK)
    return Drawing(figure, concat(tables, ignore_index=True))
