"""Pictures of kernels: true and generated ones in rows and on a grid over the field, and contact sheets.

N = field point, C = channel (wavelength, red first), K = kernel pixel
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.image import imsave
from numpy.typing import NDArray

from deeplens_workers.field import centre_to_corner
from spaces.drawing import GREY, INK, Drawing, Keys, dress, new_figure, pixel_table

if TYPE_CHECKING:  # a contact sheet needs no torch
    from trainables.psf.field_kernels import FieldKernels

Array = NDArray[np.float64]

ROWS = ("ray-traced", "generated", "difference")
SIDE = 5
"""Kernels along a side of the grid over the field."""
LINE = 0.16  # inches of a caption's further line
# Displayed brightness is (value / peak)^GAMMA, so that a coma's tail shows beside its core.
GAMMA = 0.5
FOCUS_STEPS = 7
# Where the kernels through focus lie, as distance from the centre over half the sensor's width.
FOCUS_RADIUS = 0.7


@dataclass(frozen=True)
class PsfGrid:
    """The pixels of the picture: for each shown position two colour images [K, K, 3] in 0..1 on one scale per
    position, and the signed difference [K, K] as a fraction of the true channel's peak, of the channel where it is
    largest: a mean over channels would hide errors of opposite sign."""

    true: Array
    generated: Array
    residual: Array
    error: Array
    """Relative L2 error per position."""


def psf_grid(true: Array, generated: Array) -> PsfGrid:
    """Scale kernels [N, C, K, K] for display: true and generated of a position share one scale per channel."""
    peak = true.max(axis=(2, 3), keepdims=True)
    difference = generated - true
    error = np.sqrt((difference**2).sum(axis=(1, 2, 3)) / (true**2).sum(axis=(1, 2, 3)))
    relative = difference / peak
    worst = np.abs(relative).argmax(axis=1, keepdims=True)
    return PsfGrid(
        true=colours(true / peak),
        generated=colours(generated / peak),
        residual=np.take_along_axis(relative, worst, axis=1)[:, 0],
        error=error,
    )


def psf_grid_figure(
    true: Array,
    generated: Array,
    title: str,
    above: Sequence[str],
    below: Sequence[str] | None = None,
    note: str = "relative L2 error",
    keys: Keys | None = None,
) -> Drawing:
    """Columns are kernels, as given; rows are the true kernels, the generated ones, and their difference.

    Args:
        true, generated: [N, C, K, K], each channel sums to one; C is 1 or 3 (red first).
        above, below: N captions of the columns each; under every column stands its error first.
        note: what is written under the columns.
        keys: what the table says of each kernel, N values each.
    """
    grid = psf_grid(np.asarray(true, float), np.asarray(generated, float))
    count = len(grid.error)
    captions = [f"{error:.3f}" for error in grid.error]
    if below is not None:
        captions = [f"{error}\n{more}" for error, more in zip(captions, below, strict=True)]
    further = LINE * max(caption.count("\n") for caption in captions)
    width, height = 1.45 * count + 1.5, 5.62 + further
    figure = new_figure(width, height)
    axes = figure.subplots(3, count, squeeze=False, gridspec_kw={"wspace": 0.05, "hspace": 0.06})
    figure.subplots_adjust(
        left=0.95 / width, right=1 - 0.75 / width, top=1 - 0.77 / height, bottom=(0.62 + further) / height
    )
    limit = round_up(float(np.abs(grid.residual).max()))
    for column in range(count):
        axes[0, column].imshow(grid.true[column], interpolation="none")
        axes[1, column].imshow(grid.generated[column], interpolation="none")
        shown = axes[2, column].imshow(
            grid.residual[column], cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="none"
        )
        axes[0, column].set_title(above[column], fontsize=9, color=INK, pad=5)
        axes[2, column].set_xlabel(captions[column], fontsize=9, color=INK, labelpad=5)
    for row, name in enumerate(ROWS):
        axes[row, 0].set_ylabel(name, fontsize=10, color=INK, labelpad=8)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
        for spine in axis.spines.values():
            spine.set_visible(False)
    box = axes[2, -1].get_position()
    bar = figure.add_axes((box.x1 + 0.012, box.y0, 0.012, box.height))
    figure.colorbar(
        shown, cax=bar, ticks=[-limit, 0, limit], format=lambda value, _: f"{100 * value:+.2g} %" if value else "0"
    )
    bar.tick_params(labelsize=8, colors=INK, length=0)
    bar.spines[:].set_visible(False)
    left = axes[0, 0].get_position().x0
    figure.text(left, 1 - 0.3 / height, title, fontsize=11, color=INK, va="center")
    figure.text(
        left,
        0.066 / height,
        f"Below: {note}.\nBrightness: (value / true peak)^{GAMMA:g}, same scale for both rows of a column; "
        "difference: the largest of the channels, % of its true peak.",
        fontsize=7.5,
        color=GREY,
        va="bottom",
    )
    table = pixel_table(
        {**(keys or {"kernel": range(count)}), "rel_l2": grid.error},
        true=np.asarray(true),
        generated=np.asarray(generated),
        difference=grid.residual,
    )
    return Drawing(figure, table)


def field_figure(kernels: FieldKernels) -> Drawing:
    """`psf_grid_figure` of held-out positions from the field's centre to its corner."""
    shown = kernels.some(centre_to_corner(kernels.points))
    title = kernels.title("PSFs from the centre of the field to its corner, at held-out positions")
    above = [f"({x:.1f}, {y:.1f}) mm" for x, y in zip(shown.x_mm, shown.y_mm, strict=True)]
    # With other distances a kernel is another one, whatever its place.
    names = _distance_names(kernels)
    below, note = (_distances(shown.points), f"relative L2 error; {names}") if names else (None, "relative L2 error")
    return psf_grid_figure(shown.true.numpy(), shown.generated.numpy(), title, above, below, note, shown.keys)


def focus_figure(kernels: FieldKernels) -> Drawing:
    """`psf_grid_figure` of held-out positions through focus, of a model that knows depth or focus distance."""
    defocus = defocus_of(kernels.points, kernels.conditions)
    chosen = through_focus(defocus, kernels.radius_mm / kernels.half_mm[0])
    shown, defocus = kernels.some(chosen), defocus[chosen]
    names = [name.removesuffix("_mm") for name in kernels.conditions[2:]]
    return psf_grid_figure(
        shown.true.numpy(),
        shown.generated.numpy(),
        f"PSFs through focus, at held-out positions ({_distance_names(kernels)} above)",
        _distances(shown.points),
        [f"{value:+.3f} 1/m\nr = {r:.1f} mm" for value, r in zip(defocus, shown.radius_mm, strict=True)],
        f"relative L2 error; {'-' * (names[0] == 'focus')}{' - '.join(f'1/{name}' for name in names)}, of distances "
        "as positive numbers; r, distance from the centre",
        {**shown.keys, "defocus_per_m": defocus},
    )


def mosaic_figure(kernels: FieldKernels) -> Drawing:
    """Kernels on a grid over the field, each at the held-out point nearest to its cell: true, generated, their difference."""
    field = kernels.at_like_distances
    levels = np.linspace(-1, 1, 2 * SIDE + 1)[1::2]
    cells = np.array([(x, y) for y in levels[::-1] for x in levels])
    shown = field.some(np.linalg.norm(field.points[:, None, :2] - cells, axis=2).argmin(axis=0))
    grid = psf_grid(shown.true.double().numpy(), shown.generated.double().numpy())
    figure = new_figure(10.2, 3.9, layout="constrained")
    axes = figure.subplots(1, 3, sharex=True, sharey=True)
    limit = round_up(float(np.abs(grid.residual).max()))
    for axis, name, tiles in zip(axes, ROWS, (grid.true, grid.generated, grid.residual), strict=True):
        for cell, tile in zip(cells, tiles, strict=True):
            extent = [side * half for at, half in zip(cell, field.half_mm, strict=True) for side in _edges(at)]
            # The map is the difference's; the other tiles are colours already.
            image = axis.imshow(tile, cmap="RdBu_r", vmin=-limit, vmax=limit, extent=extent, interpolation="none")
        over_the_sensor(axis, field, name)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, format=lambda value, _: f"{100 * value:+.2g} %" if value else "0")
    bar.set_label("difference / true peak", fontsize=8, color=INK)
    bar.ax.tick_params(labelsize=8, colors=INK)
    figure.suptitle(field.title("PSFs over the field, each at the nearest held-out position"), fontsize=10, color=INK)
    table = pixel_table(
        {"cell_x": cells[:, 0], "cell_y": cells[:, 1], **shown.keys},
        true=shown.true.numpy(),
        generated=shown.generated.numpy(),
        difference=grid.residual,
    )
    return Drawing(figure, table)


def over_the_sensor(axis: Axes, field: FieldKernels, title: str) -> None:
    """An axis that is the sensor."""
    width, height = field.half_mm
    axis.set_xlim(-1.04 * width, 1.04 * width)
    axis.set_ylim(-1.04 * height, 1.04 * height)
    axis.set_aspect("equal")
    place = axis.get_subplotspec()
    dress(axis, "x (mm)", "y (mm)" if place is None or place.is_first_col() else "")
    axis.set_title(title, fontsize=9, color=INK)


def _edges(at: float) -> tuple[float, float]:
    """Of a cell, with a gap to the next."""
    return at - 0.96 / SIDE, at + 0.96 / SIDE


def _distance_names(kernels: FieldKernels) -> str:
    """What else than x and y a model knows, as `_distances` has them."""
    return " / ".join(name.removesuffix("_mm") for name in kernels.conditions[2:])


def _distances(points: NDArray[np.floating]) -> list[str]:
    """Distances of points [N, d] in mm."""
    return [" / ".join(f"{distance:.0f}" for distance in one) + " mm" for one in points[:, 2:]]


def defocus_of(points: NDArray[np.floating], conditions: Sequence[str]) -> Array:
    """Vergence of the object less that of the focus, [N] in 1/m; what is no condition is the same everywhere and counts 0.

    Args:
        points: [N, d] of a model with these conditions, distances in mm.
    """
    signs = {"depth_mm": 1.0, "focus_mm": -1.0}
    found = np.zeros(len(points))
    for name, column in zip(conditions, points.T, strict=True):
        if name in signs:
            found += signs[name] * 1000 / np.abs(column)
    return found


def through_focus(defocus: Array, radius: Array) -> NDArray[np.intp]:
    """Indices of field points at even steps of defocus [N] over all that there is, as near to `FOCUS_RADIUS` as can be.

    Args:
        radius: [N], the points' distances from the centre; with fewer points than steps all are chosen.
    """
    count = min(FOCUS_STEPS, len(defocus))
    low, high = defocus.min(), defocus.max()
    chosen: list[int] = []
    for step in np.linspace(low, high, count):
        distance = np.hypot((defocus - step) / max(high - low, 1e-12), radius - FOCUS_RADIUS)
        distance[chosen] = np.inf
        chosen.append(int(distance.argmin()))
    return np.array(chosen)


def contact_sheet(kernels: NDArray[np.floating], columns: int | None = None) -> Array:
    """One picture [H, W, 3] in 0..1 of kernels [N, C, K, K], each on the scale of its own peak per channel.

    Args:
        columns: kernels in a row, x rising to the right; rows rise upwards like y. Default: about as many as rows.
    """
    shown = colours(kernels / kernels.max(axis=(2, 3), keepdims=True))
    columns = columns or math.ceil(math.sqrt(len(shown)))
    rows, side = math.ceil(len(shown) / columns), shown.shape[1] + 1
    sheet = np.full((rows * side + 1, columns * side + 1, 3), 0.25)
    for index, kernel in enumerate(shown):
        top, left = (rows - 1 - index // columns) * side + 1, index % columns * side + 1
        sheet[top : top + side - 1, left : left + side - 1] = kernel
    return sheet


def save_contact_sheet(path: Path, kernels: NDArray[np.floating], columns: int | None = None) -> None:
    """Write `contact_sheet` as a PNG, a pixel for a kernel's pixel."""
    imsave(path, contact_sheet(kernels, columns))


def colours(kernels: Array) -> Array:
    """[N, C, K, K] in units of the peak -> [N, K, K, 3] in 0..1; one channel is shown through a colour map."""
    bright = np.clip(kernels, 0, 1) ** GAMMA
    if bright.shape[1] == 3:
        return np.moveaxis(bright, 1, -1)
    return np.asarray(colormaps["inferno"](bright.mean(axis=1))[..., :3])


def round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten, so that a colour bar has a readable end."""
    power = 10.0 ** math.floor(math.log10(max(value, 1e-12)))
    return next(step * power for step in (1, 2, 5, 10) if value <= step * power * (1 + 1e-9))
