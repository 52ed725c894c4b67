"""Figures of units: one unit's field of PSFs, units that the model draws beside traced ones, and errors.

U = units, P = positions, C = channel (wavelength, red first), K = kernel pixel, S = trainings
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from pandas import DataFrame, concat

from deeplens_workers.asbuilt_data import OBSERVED, AsBuiltData
from deeplens_workers.field import centre_to_corner
from deeplens_workers.kernels import middle_channel
from spaces.drawing import (
    BLUE,
    GREEN,
    GREY,
    INK,
    MODEL,
    ORANGE,
    PURPLE,
    SKY,
    TRUE,
    Drawing,
    Figures,
    Keys,
    dress,
    logarithmic,
    new_figure,
    pixel_table,
)
from spaces.seeding import named_seed
from trainables.asbuilt.data import AsBuiltTest, observed
from trainables.asbuilt.energy import EnergyDistance
from trainables.asbuilt.evaluation import GIVEN, name_of
from trainables.asbuilt.network import AsBuiltCVAE
from trainables.asbuilt.quantities import QUANTITIES
from trainables.learner import evaluating
from trainables.psf.field_kernels import FieldKernels
from trainables.psf.figures.kernels import colours
from trainables.psf.figures.latent import interpolation_figure, traversal_figure, way
from trainables.psf.figures.maps import error_map_figure
from trainables.psf.figures.model import field_figures
from trainables.psf.metrics import relative_l2

SHOWN = 9
"""Units in a row of samples."""
DRAWN = 500
"""Units that are drawn to compare their distributions with traced ones'."""
TITLES = {"rms_radius": "RMS radius, pixels", "mtf50": "MTF50, cycles per pixel", "asymmetry": "left-right asymmetry"}
# What a line is told by: neither alone is enough for nine of them.
LINES = (MODEL, ORANGE, BLUE, PURPLE, GREY, GREEN, SKY, INK, "#b07d4f")
MARKERS = "osD^vPX*<"
NORMAL_95 = 1.96


def unit_figures(model: AsBuiltCVAE, test: AsBuiltTest, data: AsBuiltData) -> Figures:
    """What draws each figure of a model, by name; of the field of a unit where the lens' facts are known."""
    figures = {
        name: partial(draw, model, test)
        for name, draw in (("unit", unit_figure), ("samples", sample_figure), ("population", population_figure))
    }
    if data.lens_facts is None:
        return figures
    kernels = _first_unit(model, test, data)
    errors = partial(unit_error_map_figure, model, test, kernels)
    return {
        **figures,
        **{name: draw for name, draw in field_figures(kernels).items() if name != "psfs"},  # `unit` has them
        "error_map": errors,
        "traversals": partial(unit_traversal_figure, model, kernels),
        "interpolation": partial(unit_interpolation_figure, model, test, kernels),
    }


def _first_unit(model: AsBuiltCVAE, test: AsBuiltTest, data: AsBuiltData) -> FieldKernels:
    """The first test unit where it was not observed, and the model of it."""
    unit, away = test.units.some(slice(1)), _not_observed(test)
    seen = observed(unit, GIVEN)
    points = unit.points[:, away]
    with evaluating(model):
        fitted = model.predict(seen.kernels, seen.points, points)[0]
    which = f"one unit fitted to {GIVEN} PSFs"
    return FieldKernels.of(points[0], unit.kernels[0, away], fitted, data, model.config.conditions, which)


def _not_observed(test: AsBuiltTest) -> list[int]:
    """Positions of a unit that are not among the `GIVEN` observed ones."""
    return sorted({*range(test.units.points.shape[1])} - {*OBSERVED[GIVEN]})


def unit_error_map_figure(model: AsBuiltCVAE, test: AsBuiltTest, kernels: FieldKernels) -> Drawing:
    """`error_map_figure` of the mean over all test units, which have the same positions."""
    away, seen = _not_observed(test), observed(test.units, GIVEN)
    errors = []
    with evaluating(model):
        for unit in range(len(test.units)):
            one = slice(unit, unit + 1)
            fitted = model.predict(seen.kernels[one], seen.points[one], test.units.points[one][:, away])
            errors.append(relative_l2(fitted[0], test.units.kernels[unit, away]))
    return error_map_figure(kernels, torch.stack(errors).mean(dim=0).double().numpy(), f"mean of {len(errors)} units")


def unit_traversal_figure(model: AsBuiltCVAE, kernels: FieldKernels) -> Drawing:
    """`traversal_figure` of the mean unit along the principal components of the population, at the position that is farthest out."""
    place = int(kernels.radius_mm.argmax())
    point = torch.from_numpy(kernels.points[place : place + 1]).float()[None]
    count = model.config.latent_dim
    standard = torch.eye(count).flip(0)  # the largest component comes first
    where = f"at ({kernels.x_mm[place]:.1f}, {kernels.y_mm[place]:.1f}) mm"
    with evaluating(model):
        return traversal_figure(
            lambda z: model.decode(z, point.expand(len(z), -1, -1))[:, 0],
            model.population_mu,
            model.unit(standard.to(model.population_mu)) - model.population_mu,
            [f"component {number}" for number in range(1, count + 1)],
            where,
        )


def unit_interpolation_figure(model: AsBuiltCVAE, test: AsBuiltTest, kernels: FieldKernels) -> Drawing:
    """`interpolation_figure` of one unit from the field's centre to its corner, and at its corner from it to another unit."""
    first = torch.from_numpy(np.median(kernels.points, axis=0)).float()
    last = first.clone()
    first[:2], last[:2] = 0, 1
    share, points = way(first, last)
    seen = observed(test.units.some(slice(1)), GIVEN)
    with evaluating(model):
        fitted = model.predict(seen.kernels, seen.points, points[None])[0]
    mixed = fitted[0] + share[:, None, None, None] * (fitted[-1] - fitted[0])
    title = f"From the centre of the field to its corner, one unit fitted to {GIVEN} PSFs"
    return interpolation_figure({"model": fitted, "mixed ends": mixed}, share.tolist(), title, "mixed ends: no model")


def unit_figure(model: AsBuiltCVAE, test: AsBuiltTest) -> Drawing:
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
    keys = dict(zip(model.config.conditions, points[shown].T, strict=True))
    return _sheet(title, rows, above, keys, true="this unit", note="Below: relative L2 error.")


def sample_figure(model: AsBuiltCVAE, test: AsBuiltTest) -> Drawing:
    """Traced units and units that the model draws, at the held-out position nearest to the corner."""
    away = test.units.held_out
    count = min(SHOWN, len(away))
    place = int(away.points[0, :, :2].square().sum(dim=1).argmax())
    generator = torch.Generator().manual_seed(named_seed(0, "samples"))
    with evaluating(model):
        drawn = model.sample_units(count, generator).predict(away.points[0, place : place + 1])
    rows = {"traced units": away.kernels[:count, place].numpy(), "drawn units": drawn[:, 0].numpy()}
    title = f"Units of the factory and units of the model, at {_label(away.points[0, place].tolist())}"
    keys = {"column_of_units": np.arange(1, count + 1)}
    return _sheet(title, rows, [""] * count, keys, note="Columns of the two rows are different units.")


def population_figure(model: AsBuiltCVAE, test: AsBuiltTest) -> Drawing:
    """The distributions of what a user asks of a kernel, over traced and over drawn units, nearest to the centre and the corner."""
    away = test.units.held_out
    distance = away.points[0, :, :2].square().sum(dim=1)
    places = [int(distance.argmin()), int(distance.argmax())]
    generator = torch.Generator().manual_seed(named_seed(0, "population"))
    with evaluating(model):
        drawn = model.sample_units(DRAWN, generator).predict(away.points[0, places])
    traced, channel = away.kernels[:, places], middle_channel(away.kernels.shape[2])
    figure = new_figure(3.1 * len(QUANTITIES), 2.6 * len(places) + 0.5, layout="constrained")
    grid = figure.subplots(len(places), len(QUANTITIES), squeeze=False)
    tables = []
    for row, place in enumerate(places):
        x, y = away.points[0, place, :2].tolist()
        for axis, (name, quantity) in zip(grid[row], QUANTITIES.items(), strict=True):
            known, model_own = (quantity(one[:, row, channel : channel + 1])[:, 0].numpy() for one in (traced, drawn))
            for series, values, colour in (("traced", known, TRUE), ("drawn", model_own, MODEL)):
                steps, shares = np.sort(values), np.arange(1, len(values) + 1) / len(values)
                axis.plot(
                    steps,
                    shares,
                    drawstyle="steps-post",
                    color=colour,
                    linewidth=1.4,
                    label=f"{len(values)} {series} units",
                )
                columns = {"quantity": name, "x": x, "y": y, "series": series, "value": steps, "share": shares}
                tables.append(DataFrame(columns))
            found = EnergyDistance.of(model_own, known)
            dress(axis, f"{TITLES.get(name, name)} at {_label(away.points[0, place].tolist())}")
            axis.set_title(f"energy distance {found.distance:.2g}, p = {found.p:.2g}", fontsize=8, color=GREY)
            axis.xaxis.label.set_size(8)
    grid[0, 0].set_ylabel("share of units at most", fontsize=8, color=INK)
    grid[0, 0].legend(fontsize=7, frameon=False, loc="lower right")
    return Drawing(figure, concat(tables, ignore_index=True))


def error_figure(errors: Mapping[str, Mapping[str, NDArray[np.float64]]], titles: Mapping[str, str]) -> Drawing:
    """Errors over the number of observed PSFs: means over trainings and units, with 95 % of the means of as many units.

    Args:
        errors: [S, U] by metric, of each method.
        titles: what is shown, by method; the first is drawn strongest.
    """
    rows = []
    for method, title in titles.items():
        for count in OBSERVED:
            if (name := name_of(count)) in errors[method]:
                values = errors[method][name].mean(axis=0)
                margin = NORMAL_95 * values.std(ddof=1) / len(values) ** 0.5
                rows.append((title, count, values.mean(), values.mean() - margin, values.mean() + margin))
    table = DataFrame(rows, columns=["method", "observed_psfs", "rel_l2", "low", "high"])
    figure = new_figure(8.6, 4.0, layout="constrained")
    axis = figure.subplots()
    for index, title in enumerate(titles.values()):
        own = table[table["method"] == title]
        axis.errorbar(
            own["observed_psfs"],
            own["rel_l2"],
            yerr=(own["rel_l2"] - own["low"], own["high"] - own["rel_l2"]),
            color=LINES[index % len(LINES)],
            marker=MARKERS[index % len(MARKERS)],
            capsize=2,
            label=title,
            markersize=4 if index else 5.5,
            linewidth=1.2 if index else 2.2,
            zorder=2 if index else 3,
        )
    axis.set_xscale("log")
    axis.set_xticks([*OBSERVED], [str(count) for count in OBSERVED])
    axis.set_xticks([], minor=True)
    logarithmic(axis, "y", table["rel_l2"].to_numpy())
    dress(axis, "PSFs of the unit that were observed", "relative L2 at other positions, mean and 95 % interval")
    figure.legend(fontsize=7.5, frameon=False, loc="outside right upper")
    return Drawing(figure, table)


def _label(point: Sequence[float], between: str = ", ") -> str:
    """x and y, and distances in metres."""
    x, y, *distances = point
    away = ", ".join(f"{distance / 1000:.3g}" for distance in distances)
    return f"({x:.2f}, {y:.2f}){between}{away} m" if distances else f"({x:.2f}, {y:.2f})"


def _sheet(
    title: str,
    rows: dict[str, NDArray[np.floating]],
    above: Sequence[str],
    keys: Keys,
    note: str,
    true: str | None = None,
) -> Drawing:
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
            axis.imshow(picture, interpolation="none")
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
    table = pixel_table(keys, **{name.replace(" ", "_"): kernels for name, kernels in rows.items()})
    return Drawing(figure, table)
