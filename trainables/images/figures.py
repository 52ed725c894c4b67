"""Figures of a run's winner, for people: `pictures.py` makes their content.

Shape legend: N = images, R = rows, M = columns, C = channel, H, W = pixels. Tiles: [R, M, C, H, W].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from matplotlib import colormaps, patheffects
from numpy.typing import NDArray
from pandas import DataFrame
from torch import Tensor
from torch.nn.functional import avg_pool2d

from spaces.drawing import GREY, INK, Drawing, dress, new_figure, pixel_table
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
from trainables.tiles import tile_figure

LARGEST = 64
"""Pixels along a side of a tile: of larger images means of blocks are shown, as more would not be seen."""
ROWS_PER_TEMPERATURE = 2
RECONSTRUCTED = 20


def image_figures(network: VAE, split: ImageSplit) -> dict[str, Callable[[], Drawing]]:
    """What draws each picture of a model on held-out images, by name; arithmetic needs two classes."""
    figures: dict[str, Callable[[], Drawing]] = {
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


def reconstruction_figure(network: VAE, split: ImageSplit) -> Drawing:
    """Test images above their reconstructions."""
    pairs = reconstructions(network, split, RECONSTRUCTED)
    half = pairs.shape[1] // 2
    tiles = torch.cat([pairs[:, :half], pairs[:, half : 2 * half]])
    return tile_drawing(
        tiles,
        "Test images and their reconstructions",
        ["image", "decoded"] * 2,
        note="decoded: the mean image of the posterior's mean",
        breaks=[2],
    )


def posterior_figure(network: VAE, split: ImageSplit) -> Drawing:
    """Draws of the posteriors of some test images, beside the images and their means."""
    tiles = posterior_samples(network, split)
    return tile_drawing(
        tiles,
        "What the model takes a test image for: draws of its posterior",
        [""] * len(tiles),
        columns=["image", "mean", *(f"{draw + 1}" for draw in range(DRAWS))],
        note=f"mean: decoded from the posterior's mean; 1 to {DRAWS}: mean images of z ~ q(z|x)",
        walls=[1, 2],
    )


def sample_figure(network: VAE) -> Drawing:
    """Draws of the prior at three temperatures."""
    tiles = prior_samples(network, rows=ROWS_PER_TEMPERATURE)
    labels = [
        f"T = {temperature:g}" if row == 0 else ""
        for temperature in TEMPERATURES
        for row in range(ROWS_PER_TEMPERATURE)
    ]
    return tile_drawing(
        tiles,
        "Samples of the prior",
        labels,
        note="mean images of z ~ N(0, T² I), the same draws for every T; T = 1 is the model's own prior",
        breaks=[ROWS_PER_TEMPERATURE * turn for turn in range(1, len(TEMPERATURES))],
    )


def interpolation_figure(network: VAE, split: ImageSplit) -> Drawing:
    """Ways between test images, linear and spherical."""
    return tile_drawing(
        interpolations(network, split),
        "From one test image to another",
        ["linear", "spherical"] * PAIRS,
        columns=["from", *(f"{step / (STEPS - 1):.0%}" for step in range(STEPS)), "to"],
        note="between posterior means; the outer columns are the images themselves",
        breaks=[2 * pair for pair in range(1, PAIRS)],
        walls=[1, STEPS + 1],
    )


def traversal_figure(network: VAE, split: ImageSplit) -> Drawing:
    """The most active latent dimensions, each moved alone."""
    tiles, dimensions = traversals(network, split)
    steps = np.linspace(-FARTHEST, FARTHEST, STEPS)
    return tile_drawing(
        tiles,
        "The most active latent dimensions, one moved at a time",
        [f"z{dimension}" for dimension in dimensions.tolist()],
        columns=[f"{step:+g}" if step else "0" for step in steps],
        note="in standard deviations of the prior; the other dimensions are those of the first test image",
    )


def arithmetic_figure(network: VAE, split: ImageSplit) -> Drawing:
    """Differences of classes' mean latents, added to images."""
    tiles, pairs = arithmetic(network, split)
    return tile_drawing(
        tiles,
        "Latent arithmetic: from one class to the nearest other one",
        [f"{_class_name(split, own)} → {_class_name(split, other)}" for own, other in pairs],
        columns=["image", "A", "B", *(f"{share:g}" for share in ADDED)],
        note="A, B: decoded mean latents of the two classes; then z(image) + t (B - A), t above, decoded",
        breaks=range(2, len(tiles), 2),
        walls=[1, 3],
    )


def tile_drawing(
    tiles: Tensor,
    title: str,
    rows: Sequence[str],
    *,
    columns: Sequence[str] = (),
    note: str,
    breaks: Sequence[int] = (),
    walls: Sequence[int] = (),
) -> Drawing:
    """Tiles [R, M, C, H, W] in [0, 1] as `tile_figure` shows them, and their levels in 0..255, which are its numbers too."""
    levels = _levels(tiles)
    count, width = levels.shape[:2]
    shown = np.moveaxis(levels, 2, -1) if levels.shape[2] == 3 else levels[:, :, 0]
    figure = tile_figure(shown, title, rows, columns=columns, note=note, breaks=breaks, walls=walls)
    named = [next((name for name in rows[row::-1] if name), "") for row in range(count)]
    names = columns or [str(column + 1) for column in range(width)]
    keys: dict[str, list[int] | list[str]] = {
        "line": [row + 1 for row in range(count) for _ in range(width)],
        "name": [name for name in named for _ in range(width)],
        "tile": [*names] * count,
    }
    used = {key: values for key, values in keys.items() if any(values)}
    return Drawing(figure, pixel_table(used, level=levels.reshape(count * width, *levels.shape[2:])))


def _levels(tiles: Tensor) -> NDArray[np.uint8]:
    """Tiles [R, M, C, H, W] of at most `LARGEST` pixels along a side, in 0..255."""
    times = -(-max(tiles.shape[-2:]) // LARGEST)
    small = avg_pool2d(tiles.flatten(0, 1), times, ceil_mode=True) if times > 1 else tiles.flatten(0, 1)
    levels = (255 * small.clamp(0, 1)).round().to(torch.uint8).unflatten(0, tiles.shape[:2])
    return np.asarray(levels.cpu().numpy())


def latent_figure(network: VAE, split: ImageSplit) -> Drawing:
    """Posterior means of the test images in two dimensions, a colour for each class."""
    mu = encode(network, split.fixed_pixels(network.likelihood.space)).mu.cpu()
    points, share = plane(mu)
    latents, active = mu.shape[1], int(active_units(mu).sum())
    names = ["z0", "z1"] if latents <= 2 else [f"principal component {number}" for number in (1, 2)]
    labels = split.labels.tolist()
    table = DataFrame(
        {"class": [_class_name(split, label) for label in labels], **dict(zip(names, points.T.numpy(), strict=True))}
    )
    figure = new_figure(6.4, 6.4)
    axes = figure.add_axes((0.09, 0.1, 0.86, 0.8))
    colours = colormaps["tab10"].colors  # type: ignore[attr-defined]
    halo = [patheffects.withStroke(linewidth=3, foreground="white")]
    for label in sorted(set(labels)):
        name, colour = _class_name(split, label), colours[label % len(colours)]
        x, y = table.loc[table["class"] == name, names].to_numpy().T
        axes.scatter(x, y, s=11, color=colour, alpha=0.65, linewidths=0)
        # Where more classes than colours are, the names tell them apart.
        axes.annotate(
            name,
            (float(np.median(x)), float(np.median(y))),
            ha="center",
            va="center",
            fontsize=12,
            weight="bold",
            color=colour,
            path_effects=halo,
            zorder=3,
        )
    dress(axes, *names)
    axes.set_aspect("equal", adjustable="datalim")
    axes.tick_params(colors=GREY, length=0)
    axes.grid(color="#e6e8ee", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    figure.text(
        0.09, 0.945, f"Posterior means of {len(mu):,} test images by class", fontsize=11, color=INK, va="center"
    )
    shown = "" if latents <= 2 else f"; the two components have {share:.0%} of the means' variance"
    figure.text(0.09, 0.02, f"{active} of {latents} latent dimensions are active{shown}", fontsize=7.5, color=GREY)
    return Drawing(figure, table)


def _class_name(split: ImageSplit, label: int) -> str:
    return split.classes[label] if label < len(split.classes) else str(label)
