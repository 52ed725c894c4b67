"""All figures of a CVAE of kernels, by name."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from spaces.drawing import Drawing, Figures
from trainables.learner import evaluating
from trainables.psf.cvae import CVAE
from trainables.psf.field_kernels import FieldKernels
from trainables.psf.figures.curves import energy_figure, mtf_figure
from trainables.psf.figures.kernels import FOCUS_RADIUS, field_figure, focus_figure, mosaic_figure
from trainables.psf.figures.latent import interpolation_figure, traversal_figure, way
from trainables.psf.figures.maps import error_map_figure, size_figure, whisker_figure


def model_figures(model: CVAE, kernels: FieldKernels) -> Figures:
    """What draws each figure of a model, of which `kernels` are those at the test set."""
    return {
        **field_figures(kernels),
        "traversals": partial(cvae_traversal_figure, model, kernels),
        "interpolation": partial(cvae_interpolation_figure, model, kernels),
    }


def field_figures(kernels: FieldKernels) -> Figures:
    """What draws each figure of true kernels and a model's; through focus if the model knows depth or focus distance."""
    drawn = {
        "psfs": field_figure,
        "field": mosaic_figure,
        "whiskers": whisker_figure,
        "sizes": size_figure,
        "error_map": error_map_figure,
        "encircled_energy": energy_figure,
        "mtf": mtf_figure,
    }
    if len(kernels.conditions) > 2:
        drawn["through_focus"] = focus_figure
    return {name: partial(draw, kernels) for name, draw in drawn.items()}


def cvae_traversal_figure(model: CVAE, kernels: FieldKernels) -> Drawing:
    """`traversal_figure` of single dimensions at one field point, about its prior's mean, in deviations of the prior over the field."""
    field = kernels.at_like_distances
    place = int(np.abs(field.radius_mm / field.half_mm[0] - FOCUS_RADIUS).argmin())
    points = torch.from_numpy(kernels.points).float()
    point = torch.from_numpy(field.points[place : place + 1]).float()
    with evaluating(model):
        everywhere = model.prior(points)
        # The law of total variance: of the means over the field, and about them.
        spread = (everywhere.mu.var(dim=0, correction=0) + everywhere.logvar.exp().mean(dim=0)).sqrt()
        where = f"at ({field.x_mm[place]:.1f}, {field.y_mm[place]:.1f}) mm"
        return traversal_figure(
            lambda z: model.decode(z, point.expand(len(z), -1)),
            model.prior(point).mu[0],
            torch.diag_embed(spread),
            [f"z{dimension}" for dimension in range(len(spread))],
            where,
        )


def cvae_interpolation_figure(model: CVAE, kernels: FieldKernels) -> Drawing:
    """`interpolation_figure` from the field's centre to its corner: by the model, by its latent alone, and by mixing the ends' kernels."""
    first = torch.from_numpy(np.median(kernels.at_like_distances.points, axis=0)).float()
    last = first.clone()
    first[:2], last[:2] = 0, 1
    share, points = way(first, last)
    with evaluating(model):
        predicted = model.predict(points)
        mu = model.prior(torch.stack([first, last])).mu
        between = model.decode(way(mu[0], mu[1])[1], points)
    mixed = predicted[0] + share[:, None, None, None] * (predicted[-1] - predicted[0])
    rows = {"model": predicted, "latent": between, "mixed ends": mixed}
    note = "latent: on the line between those of the ends; mixed ends: no model"
    return interpolation_figure(rows, share.tolist(), "From the centre of the field to its corner", note)
