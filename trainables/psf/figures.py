"""Pictures of kernels: true and generated side by side, and contact sheets. Drawn without a display.

N = field point, C = channel (wavelength, red first), K = kernel pixel
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from numpy.typing import NDArray

from deeplens_workers.field import centre_to_corner

if TYPE_CHECKING:  # a contact sheet needs no torch
    from trainables.psf.cvae import CVAE
    from trainables.psf.data import PsfSplit

Array = NDArray[np.float64]

INK, GREY = "#1f2430", "#8a90a0"
# Displayed brightness is (value / peak)^GAMMA, so that a coma's tail shows beside its core.
GAMMA = 0.5


@dataclass(frozen=True)
class PsfGrid:
    """The pixels of the picture: for each shown position two colour images [K, K, 3] in 0..1 on one scale per
    position, and the signed difference [K, K] as a fraction of the true channel's peak, of the channel where it is
    largest: a mean over channels would hide errors of opposite sign."""

    points: Array
    true: Array
    generated: Array
    residual: Array
    error: Array
    """Relative L2 error per position."""


def psf_grid(true: Array, generated: Array, points: Array) -> PsfGrid:
    """Scale kernels [N, C, K, K] for display: true and generated of a position share one scale per channel."""
    peak = true.max(axis=(2, 3), keepdims=True)
    difference = generated - true
    error = np.sqrt((difference**2).sum(axis=(1, 2, 3)) / (true**2).sum(axis=(1, 2, 3)))
    relative = difference / peak
    worst = np.abs(relative).argmax(axis=1, keepdims=True)
    return PsfGrid(
        points=points,
        true=_colours(true / peak),
        generated=_colours(generated / peak),
        residual=np.take_along_axis(relative, worst, axis=1)[:, 0],
        error=error,
    )


def psf_grid_figure(true: Array, generated: Array, points: Array) -> Figure:
    """Columns are field positions, as given; rows are the true kernels, the generated ones, and their difference.

    Args:
        true, generated: [N, C, K, K], each channel sums to one; C is 1 or 3 (red first).
        points: [N, 2 or more], normalised field coordinates x and y first.
    """
    grid = psf_grid(np.asarray(true, float), np.asarray(generated, float), np.asarray(points, float))
    count = len(grid.points)
    figure = _figure(1.45 * count + 1.5, 5.5)
    axes = figure.subplots(3, count, squeeze=False, gridspec_kw={"wspace": 0.05, "hspace": 0.06})
    figure.subplots_adjust(
        left=0.95 / (1.45 * count + 1.5), right=1 - 0.75 / (1.45 * count + 1.5), top=0.86, bottom=0.09
    )
    limit = _round_up(float(np.abs(grid.residual).max()))
    for column in range(count):
        axes[0, column].imshow(grid.true[column])
        axes[1, column].imshow(grid.generated[column])
        shown = axes[2, column].imshow(grid.residual[column], cmap="RdBu_r", vmin=-limit, vmax=limit)
        x, y = grid.points[column, :2]
        axes[0, column].set_title(f"({x:.2f}, {y:.2f})", fontsize=9, color=INK, pad=5)
        axes[2, column].set_xlabel(f"{grid.error[column]:.3f}", fontsize=9, color=INK, labelpad=5)
    for row, title in enumerate(("ray-traced", "generated", "difference")):
        axes[row, 0].set_ylabel(title, fontsize=10, color=INK, labelpad=8)
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
    figure.text(
        axes[0, 0].get_position().x0,
        0.945,
        "PSFs from the centre of the field to its corner, at positions the model was not trained on",
        fontsize=11,
        color=INK,
        va="center",
    )
    figure.text(
        axes[0, 0].get_position().x0,
        0.012,
        f"below: relative L2 error. Brightness: (value / true peak)^{GAMMA:g}, same scale for both rows of a position; "
        "difference: the largest of the channels, % of its true peak",
        fontsize=7.5,
        color=GREY,
        va="bottom",
    )
    return figure


def save_psf_grid(path: Path, model: CVAE, held_out: PsfSplit) -> None:
    """Write `psf_grid_figure` of held-out positions from the field's centre to its corner."""
    from trainables.psf.metrics import predict

    points = held_out.points.numpy()
    shown = centre_to_corner(points)
    generated = predict(model, held_out.points[shown]).numpy()
    psf_grid_figure(held_out.kernels[shown].numpy(), generated, points[shown]).savefig(path, dpi=150)


def contact_sheet(kernels: NDArray[np.floating], columns: int | None = None) -> Array:
    """One picture [H, W, 3] in 0..1 of kernels [N, C, K, K], each on the scale of its own peak per channel.

    Args:
        columns: kernels in a row, x rising to the right; rows rise upwards like y. Default: about as many as rows.
    """
    shown = _colours(kernels / kernels.max(axis=(2, 3), keepdims=True))
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


def _colours(kernels: Array) -> Array:
    """[N, C, K, K] in units of the peak -> [N, K, K, 3] in 0..1; one channel is shown through a colour map."""
    bright = np.clip(kernels, 0, 1) ** GAMMA
    if bright.shape[1] == 3:
        return np.moveaxis(bright, 1, -1)
    return np.asarray(colormaps["inferno"](bright.mean(axis=1))[..., :3])


def _round_up(value: float) -> float:
    """The next of 1, 2, 5 times a power of ten, so that a colour bar has a readable end."""
    power = 10.0 ** math.floor(math.log10(max(value, 1e-12)))
    return next(step * power for step in (1, 2, 5, 10) if value <= step * power * (1 + 1e-9))


def _figure(width: float, height: float) -> Figure:
    """A figure (inches) on a canvas without a display; `figure.savefig(path, dpi=160)` writes it."""
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure
