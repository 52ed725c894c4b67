"""Pictures of units: one unit's field of PSFs, units that the model draws beside traced ones, and errors.

U = units, P = positions, C = channel (wavelength, red first), K = kernel pixel, S = trainings
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deeplens_workers.asbuilt_data import OBSERVED
from deeplens_workers.field import centre_to_corner
from deeplens_workers.kernels import middle_channel
from spaces.seeding import named_seed
from trainables.asbuilt.data import AsBuiltTest, observed
from trainables.asbuilt.energy import EnergyDistance
from trainables.asbuilt.evaluation import GIVEN, name_of
from trainables.asbuilt.network import AsBuiltCVAE
from trainables.asbuilt.quantities import QUANTITIES
from trainables.learner import evaluating
from trainables.psf.figures import GREY, INK, colours, new_figure

SHOWN = 9
"""Units in a row of samples."""
DRAWN = 500
"""Units that are drawn to compare their distributions with traced ones'."""
TITLES = {"rms_radius": "RMS radius, pixels", "mtf50": "MTF50, cycles per pixel", "asymmetry": "left-right asymmetry"}
TRACED, MODEL = "#1f2430", "#d1495b"
LINES = (MODEL, "#e39c2a", "#3d6fb6", "#6b4fa0", "#8a90a0", "#7fb69a", "#b07d4f", "#2a9d8f", "#c77dba")
ERRORS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2)
NORMAL_95 = 1.96


def unit_figure(model: AsBuiltCVAE, test: AsBuiltTest) -> Figure:
    """True, fitted and nominal kernels of the first test unit, from the field's centre to its corner."""
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
    return _sheet(title, rows, above, true="this unit", note="Below: relative L2 error.")


def sample_figure(model: AsBuiltCVAE, test: AsBuiltTest) -> Figure:
    """Traced units and units that the model draws, at the held-out position nearest to the corner."""
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
    return _sheet(title, rows, [""] * count, note="Columns of the two rows are different units.")


def population_figure(model: AsBuiltCVAE, test: AsBuiltTest) -> Figure:
    """The distributions of what a user asks of a kernel, over traced and over drawn units, nearest to the centre and the corner."""
    away = test.units.held_out
    distance = away.points[0, :, :2].square().sum(dim=1)
    places = [int(distance.argmin()), int(distance.argmax())]
    generator = torch.Generator().manual_seed(named_seed(0, "population"))
    with evaluating(model):
        drawn = model.sample_units(DRAWN, generator).predict(away.points[0, places])
    traced, channel = away.kernels[:, places], middle_channel(away.kernels.shape[2])
    figure = new_figure(3.1 * len(QUANTITIES), 2.6 * len(places) + 0.5)
    grid = figure.subplots(len(places), len(QUANTITIES), squeeze=False)
    for row, place in enumerate(places):
        for axis, (name, quantity) in zip(grid[row], QUANTITIES.items(), strict=True):
            known, model_own = (quantity(one[:, row, channel : channel + 1])[:, 0].numpy() for one in (traced, drawn))
            axis.ecdf(known, color=TRACED, linewidth=1.4, label=f"{len(known)} traced units")
            axis.ecdf(model_own, color=MODEL, linewidth=1.4, label=f"{DRAWN} drawn units")
            found = EnergyDistance.of(model_own, known)
            axis.set_title(f"energy distance {found.distance:.2g}, p = {found.p:.2g}", fontsize=8, color=GREY)
            axis.set_xlabel(
                f"{TITLES.get(name, name)} at {_label(away.points[0, place].tolist())}", fontsize=8, color=INK
            )
            axis.tick_params(labelsize=7, colors=GREY)
            axis.spines[["top", "right"]].set_visible(False)
    grid[0, 0].set_ylabel("share of units below", fontsize=8, color=INK)
    grid[0, 0].legend(fontsize=7, frameon=False, loc="lower right")
    figure.tight_layout()
    return figure


def error_figure(errors: Mapping[str, Mapping[str, NDArray[np.float64]]], titles: Mapping[str, str]) -> Figure:
    """Errors over the number of observed PSFs: means over trainings and units, with 95 % of the means of as many units.

    Args:
        errors: [S, U] by metric, of each method.
        titles: what is shown, by method; the first is drawn strongest.
    """
    figure = new_figure(8.6, 4.0)
    figure.set_layout_engine("constrained")
    axis = figure.subplots()
    for index, (method, title) in enumerate(titles.items()):
        of_units = {
            count: errors[method][name_of(count)].mean(axis=0) for count in OBSERVED if name_of(count) in errors[method]
        }
        means = np.array([values.mean() for values in of_units.values()])
        margins = np.array([NORMAL_95 * values.std(ddof=1) / len(values) ** 0.5 for values in of_units.values()])
        colour = LINES[index % len(LINES)]
        axis.errorbar(
            [*of_units],
            means,
            yerr=margins,
            color=colour,
            capsize=2,
            label=title,
            marker="o",
            markersize=4 if index else 5.5,
            linewidth=1.2 if index else 2.2,
        )
    axis.set_xscale("log")
    axis.set_xticks([*OBSERVED], [str(count) for count in OBSERVED])
    axis.set_yscale("log")
    limits = axis.get_ylim()
    axis.set_yticks(ERRORS, [f"{error:g}" for error in ERRORS])
    axis.set_ylim(limits)
    axis.minorticks_off()
    axis.set_xlabel("PSFs of the unit that were observed", fontsize=9, color=INK)
    axis.set_ylabel("relative L2 at other positions", fontsize=9, color=INK)
    axis.tick_params(labelsize=8, colors=GREY)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(fontsize=7.5, frameon=False, loc="outside right upper")
    return figure


def _label(point: Sequence[float], between: str = ", ") -> str:
    """x and y, and distances in metres."""
    x, y, *distances = point
    away = ", ".join(f"{distance / 1000:.3g}" for distance in distances)
    return f"({x:.2f}, {y:.2f}){between}{away} m" if distances else f"({x:.2f}, {y:.2f})"


def _sheet(
    title: str,
    rows: dict[str, NDArray[np.floating]],
    above: Sequence[str],
    note: str,
    true: str | None = None,
) -> Figure:
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
    return figure
