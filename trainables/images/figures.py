"""PNG pictures of a run's winner, for people: `pictures.py` makes their content. Drawn without a display.

Shape legend: N = images, R = rows, M = columns, C = channel, H, W = pixels. Tiles: [R, M, C, H, W].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from matplotlib import colormaps, patheffects
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from trainables.images.data import ImageSplit
from trainables.images.evaluation import active_units, encode
from trainables.images.pictures import (
    ADDED,
    DRAWS,
    FARTHEST,
    PAIRS,
    STEPS,
    TEMPERATURES,
    arithmetic,
    interpolations,
    plane,
    posterior_samples,
    prior_samples,
    reconstructions,
    shared_classes,
    traversals,
)
from trainables.networks.vae import VAE

INK, GREY = "#1f2430", "#8a90a0"
TILE = 0.58
"""Side of a tile in inches."""
LETTER = 0.066
"""Width in inches of a letter of a row's name, on average."""
GAP = 0.07
"""Between tiles, as a fraction of their side."""
ROWS_PER_TEMPERATURE = 2
RECONSTRUCTED = 20


def image_figures(network: VAE, split: ImageSplit) -> dict[str, Callable[[], Figure]]:
    """What draws each picture of a model on held-out images, by name; arithmetic needs two classes."""
    figures: dict[str, Callable[[], Figure]] = {
        "reconstructions": partial(reconstruction_figure, network, split),
        "posteriors": partial(posterior_figure, network, split),
        "samples": partial(sample_figure, network),
        "interpolations": partial(interpolation_figure, network, split),
        "traversals": partial(traversal_figure, network, split),
        "latents": partial(latent_figure, network, split),
    }
    if len(shared_classes(split)) > 1:
        figures["arithmetic"] = partial(arithmetic_figure, network, split)
    return figures


def reconstruction_figure(network: VAE, split: ImageSplit) -> Figure:
    """Test images above their reconstructions."""
    pairs = reconstructions(network, split, RECONSTRUCTED)
    half = pairs.shape[1] // 2
    tiles = torch.cat([pairs[:, :half], pairs[:, half : 2 * half]])
    return tile_figure(
        tiles,
        "Test images and their reconstructions",
        ["image", "decoded"] * 2,
        note="decoded: the mean image of the posterior's mean",
        breaks=[2],
    )


def posterior_figure(network: VAE, split: ImageSplit) -> Figure:
    """Draws of the posteriors of some test images, beside the images and their means."""
    tiles = posterior_samples(network, split)
    return tile_figure(
        tiles,
        "What the model takes a test image for: draws of its posterior",
        [""] * len(tiles),
        columns=["image", "mean", *(f"{draw + 1}" for draw in range(DRAWS))],
        note=f"mean: decoded from the posterior's mean; 1 to {DRAWS}: mean images of z ~ q(z|x)",
        walls=[1, 2],
    )


def sample_figure(network: VAE) -> Figure:
    """Draws of the prior at three temperatures."""
    tiles = prior_samples(network, rows=ROWS_PER_TEMPERATURE)
    labels = [
        f"T = {temperature:g}" if row == 0 else ""
        for temperature in TEMPERATURES
        for row in range(ROWS_PER_TEMPERATURE)
    ]
    return tile_figure(
        tiles,
        "Samples of the prior",
        labels,
        note="mean images of z ~ N(0, T² I), the same draws for every T; T = 1 is the model's own prior",
        breaks=[ROWS_PER_TEMPERATURE * turn for turn in range(1, len(TEMPERATURES))],
    )


def interpolation_figure(network: VAE, split: ImageSplit) -> Figure:
    """Ways between test images, linear and spherical."""
    return tile_figure(
        interpolations(network, split),
        "From one test image to another",
        ["linear", "spherical"] * PAIRS,
        columns=["from", *(f"{step / (STEPS - 1):.0%}" for step in range(STEPS)), "to"],
        note="between posterior means; the outer columns are the images themselves",
        breaks=[2 * pair for pair in range(1, PAIRS)],
        walls=[1, STEPS + 1],
    )


def traversal_figure(network: VAE, split: ImageSplit) -> Figure:
    """The most active latent dimensions, each moved alone."""
    tiles, dimensions = traversals(network, split)
    steps = np.linspace(-FARTHEST, FARTHEST, STEPS)
    return tile_figure(
        tiles,
        "The most active latent dimensions, one moved at a time",
        [f"z{dimension}" for dimension in dimensions.tolist()],
        columns=[f"{step:+g}" if step else "0" for step in steps],
        note="in standard deviations of the prior; the other dimensions are those of the first test image",
    )


def arithmetic_figure(network: VAE, split: ImageSplit) -> Figure:
    """Differences of classes' mean latents, added to images."""
    tiles, pairs = arithmetic(network, split)
    return tile_figure(
        tiles,
        "Latent arithmetic: from one class to the nearest other one",
        [f"{_class_name(split, own)} → {_class_name(split, other)}" for own, other in pairs],
        columns=["image", "A", "B", *(f"{share:g}" for share in ADDED)],
        note="A, B: decoded mean latents of the two classes; then z(image) + t (B - A), t above, decoded",
        breaks=range(2, len(tiles), 2),
        walls=[1, 3],
    )


def latent_figure(network: VAE, split: ImageSplit) -> Figure:
    """Posterior means of the test images in two dimensions, a colour for each class."""
    mu = encode(network, split.fixed_pixels(network.likelihood.space)).mu.cpu()
    points, share = plane(mu)
    figure = _figure(6.4, 6.4)
    axes = figure.add_axes((0.09, 0.1, 0.86, 0.8))
    colours = colormaps["tab10"].colors  # type: ignore[attr-defined]
    halo = [patheffects.withStroke(linewidth=3, foreground="white")]
    for label in split.labels.unique().tolist():
        x, y = points[split.labels == label].T.numpy()
        colour = colours[label % len(colours)]
        axes.scatter(x, y, s=11, color=colour, alpha=0.65, linewidths=0)
        centre = (float(np.median(x)), float(np.median(y)))
        axes.annotate(
            _class_name(split, label),
            centre,
            ha="center",
            va="center",
            fontsize=12,
            weight="bold",
            color=colour,
            path_effects=halo,
            zorder=3,
        )
    latents, active = mu.shape[1], int(active_units(mu).sum())
    names = ["z0", "z1"] if latents <= 2 else [f"principal component {number}" for number in (1, 2)]
    axes.set_xlabel(names[0], color=INK, fontsize=9)
    axes.set_ylabel(names[1], color=INK, fontsize=9)
    axes.set_aspect("equal", adjustable="datalim")
    axes.tick_params(labelsize=8, colors=GREY, length=0)
    axes.grid(color="#e6e8ee", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    figure.text(
        0.09, 0.945, f"Posterior means of {len(mu):,} test images by class", fontsize=11, color=INK, va="center"
    )
    shown = "" if latents <= 2 else f"; the two components have {share:.0%} of the means' variance"
    figure.text(0.09, 0.02, f"{active} of {latents} latent dimensions are active{shown}", fontsize=7.5, color=GREY)
    return figure


def _class_name(split: ImageSplit, label: int) -> str:
    return split.classes[label] if label < len(split.classes) else str(label)


def tile_figure(
    tiles: Tensor,
    title: str,
    rows: Sequence[str],
    *,
    columns: Sequence[str] = (),
    note: str,
    breaks: Sequence[int] = (),
    walls: Sequence[int] = (),
) -> Figure:
    """Tiles [R, M, C, H, W] in [0, 1] with their rows' and columns' names.

    Args:
        breaks, walls: rows and columns before which there is more room.
    """
    count, width = tiles.shape[:2]
    step = TILE * (1 + GAP)
    left = max(0.8, 0.2 + LETTER * max(map(len, rows)))
    right, top, bottom = 0.15, 0.62 if columns else 0.45, 0.35
    down = [step * row + 0.1 * sum(row >= one for one in breaks) for row in range(count)]
    along = [step * column + 0.1 * sum(column >= one for one in walls) for column in range(width)]
    size = (left + along[-1] + TILE + right, top + down[-1] + TILE + bottom)
    figure = _figure(*size)
    shown = tiles.detach().cpu().clamp(0, 1).movedim(2, -1).numpy()
    for row in range(count):
        for column in range(width):
            place = (left + along[column], size[1] - top - down[row] - TILE, TILE, TILE)
            axes = figure.add_axes((place[0] / size[0], place[1] / size[1], TILE / size[0], TILE / size[1]))
            image = shown[row, column]
            axes.imshow(image if image.shape[-1] == 3 else image[..., 0], cmap="gray", vmin=0, vmax=1)
            axes.set_axis_off()
        middle = (size[1] - top - down[row] - TILE / 2) / size[1]
        figure.text((left - 0.1) / size[0], middle, rows[row], fontsize=8.5, color=INK, ha="right", va="center")
    for column, name in enumerate(columns):
        centre = (left + along[column] + TILE / 2) / size[0]
        figure.text(centre, 1 - (top - 0.1) / size[1], name, fontsize=8, color=GREY, ha="center", va="center")
    figure.text(left / size[0], 1 - 0.22 / size[1], title, fontsize=11, color=INK, va="center")
    figure.text(left / size[0], 0.14 / size[1], note, fontsize=7.5, color=GREY, va="center")
    return figure


def _figure(width: float, height: float) -> Figure:
    """A figure (inches) on a canvas without a display."""
    figure = Figure(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(figure)
    return figure
