"""Pictures of units: one unit's field of PSFs, and units that the model draws beside traced ones.

U = units, P = positions, C = channel (wavelength, red first), K = kernel pixel
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from deeplens_workers.field import centre_to_corner
from spaces.seeding import named_seed
from trainables.asbuilt.data import AsBuiltTest, observed
from trainables.asbuilt.evaluation import GIVEN
from trainables.asbuilt.network import AsBuiltCVAE
from trainables.learner import evaluating
from trainables.psf.figures import GREY, INK, colours, new_figure

SHOWN = 9
"""Units in a row of samples."""


def save_unit(path: Path, model: AsBuiltCVAE, test: AsBuiltTest) -> None:
    """Write true, fitted and nominal kernels of the first test unit, from the field's centre to its corner."""
    unit = test.units.some(slice(1))
    seen, away = observed(unit, GIVEN), unit.held_out
    with evaluating(model):
        fitted = model.predict(seen.kernels, seen.points, away.points)[0]
    points = away.points[0].numpy()
    shown = centre_to_corner(points)
    rows = {
        "this unit": away.kernels[0, shown].numpy(),
        f"fitted to {GIVEN} PSFs": fitted[shown].numpy(),
        "nominal lens": test.nominal_held_out[shown].numpy(),
    }
    above = [_label(point, "\n") for point in points[shown]]
    title = f"One as-built lens, of which {GIVEN} PSFs were observed, at other places of its field"
    _sheet(path, title, rows, above, true="this unit", note="Below: relative L2 error.")


def save_samples(path: Path, model: AsBuiltCVAE, test: AsBuiltTest) -> None:
    """Write traced units and units that the model draws, at the held-out position nearest to the corner."""
    away = test.units.held_out
    count = min(SHOWN, len(away))
    place = int(away.points[0, :, :2].square().sum(dim=1).argmax())
    generator = torch.Generator().manual_seed(named_seed(0, "samples"))
    with evaluating(model):
        drawn = model.decode(
            model.draw_units(count, generator), away.points[:1, place : place + 1].expand(count, -1, -1)
        )
    rows = {"traced units": away.kernels[:count, place].numpy(), "drawn units": drawn[:, 0].numpy()}
    title = f"Units of the factory and units of the model, at {_label(away.points[0, place].tolist())}"
    _sheet(path, title, rows, [""] * count, note="Columns of the two rows are different units.")


def _label(point: Sequence[float], between: str = ", ") -> str:
    """x and y, and distances in metres."""
    x, y, *distances = point
    away = ", ".join(f"{distance / 1000:.3g}" for distance in distances)
    return f"({x:.2f}, {y:.2f}){between}{away} m" if distances else f"({x:.2f}, {y:.2f})"


def _sheet(
    path: Path,
    title: str,
    rows: dict[str, NDArray[np.floating]],
    above: Sequence[str],
    note: str,
    true: str | None = None,
) -> None:
    """Kernels [P, C, K, K] of each row; all of a column on the scale of its first, with the error from it where it is true."""
    first = next(iter(rows.values()))
    peak = first.max(axis=(2, 3), keepdims=True)
    width, height = 1.3 * len(above) + 1.5, 1.5 * len(rows) + 1.1
    figure = new_figure(width, height)
    axes = figure.subplots(len(rows), len(above), squeeze=False, gridspec_kw={"wspace": 0.05, "hspace": 0.2})
    figure.subplots_adjust(left=1.35 / width, right=1 - 0.1 / width, top=1 - 0.75 / height, bottom=0.5 / height)
    for line, (name, kernels) in zip(axes, rows.items(), strict=True):
        scale = peak if true else kernels.max(axis=(2, 3), keepdims=True)
        for axis, picture in zip(line, colours(kernels / scale), strict=True):
            axis.imshow(picture)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        line[0].set_ylabel(name, fontsize=9, color=INK, labelpad=8)
        if true and name != true:
            errors = np.linalg.norm((kernels - first).reshape(len(first), -1), axis=1)
            errors /= np.linalg.norm(first.reshape(len(first), -1), axis=1)
            for axis, error in zip(line, errors, strict=True):
                axis.set_xlabel(f"{error:.3f}", fontsize=9, color=INK, labelpad=3)
    for axis, words in zip(axes[0], above, strict=True):
        axis.set_title(words, fontsize=9, color=INK, pad=4)
    figure.text(0.1 / width, 1 - 0.3 / height, title, fontsize=11, color=INK, va="center")
    figure.text(0.1 / width, 0.08 / height, note, fontsize=7.5, color=GREY, va="bottom")
    figure.savefig(path, dpi=150)
