"""What a model makes of images, as tiles: reconstructions, samples of the prior, ways through the latent space.

Tiles are mean images of the decoder, not draws of its pixels.

Shape legend: N = images, R = rows, M = columns, C = channel, H, W = pixels, L = latent dimension. Tiles: [R, M, C, H, W].
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor
from torch.nn.functional import pad

from spaces.seeding import named_seed
from trainables.images.data import ImageSplit
from trainables.images.evaluation import encode
from trainables.images.objective import fixed_noise
from trainables.networks.gaussian import Gaussian
from trainables.networks.vae import VAE

TEMPERATURES = (0.5, 0.75, 1.0)
"""Standard deviations of the prior that is sampled; 1 is the model's own."""
COLUMNS = 10
PAIRS, STEPS = 4, 9
TRAVERSED, FARTHEST = 8, 3.0
"""Dimensions that are moved, and how far from 0 in standard deviations of the prior."""
POSTERIORS, DRAWS = 6, 8
"""Images whose posteriors are drawn from, and how often."""
ADDED = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
"""How much of the difference of two classes is added to an image."""
SEED = 0
# Of the image for TensorBoard: pixels are repeated so that a tile is about so large on a screen.
TILE_PX = 84
GAP_PX = 2
GAP_GREY = 0.25


def one_of_each(split: ImageSplit, count: int) -> Tensor:
    """Indices [count] of images of all classes in turn, the first of each class first."""
    classes = split.labels.unique()
    members = [(split.labels == label).nonzero().flatten() for label in classes]
    longest = max(len(one) for one in members)
    turns = [one[place : place + 1] for place in range(longest) for one in members]
    return torch.cat(turns)[:count]


@torch.no_grad()
def reconstructions(network: VAE, split: ImageSplit, columns: int = COLUMNS) -> Tensor:
    """Images of each class above what decode(mu) makes of them, [2, M, C, H, W]."""
    x = split.fixed_pixels(network.likelihood.space)[one_of_each(split, columns).to(split.images.device)]
    return torch.stack([x, network.reconstruct(x)])


@torch.no_grad()
def prior_samples(network: VAE, columns: int = COLUMNS, rows: int = 1) -> Tensor:
    """Mean images of draws of the prior, `rows` of them for each of `TEMPERATURES`, the same draws for all: [R, M, C, H, W]."""
    device = next(network.parameters()).device
    generator = torch.Generator().manual_seed(named_seed(SEED, "samples"))
    draws = torch.randn(rows, columns, network.config.latent_dim, generator=generator).to(device)
    z = torch.cat([temperature * draws for temperature in TEMPERATURES])
    return _decoded(network, z)


@torch.no_grad()
def posterior_samples(network: VAE, split: ImageSplit, rows: int = POSTERIORS, draws: int = DRAWS) -> Tensor:
    """Images of each class, each beside decode(mu) and what becomes of draws of its posterior, [R, 2 + draws, C, H, W]."""
    x = split.fixed_pixels(network.likelihood.space)[one_of_each(split, rows).to(split.images.device)]
    posterior = network.encode(x)
    noise = fixed_noise(len(x), draws, posterior.mu.shape[1]).to(x.device)
    drawn = Gaussian(*(one[:, None] for one in posterior)).sample(noise)
    z = torch.cat([posterior.mu[:, None], drawn], dim=1)
    return torch.cat([x[:, None], _decoded(network, z)], dim=1)


@torch.no_grad()
def interpolations(network: VAE, split: ImageSplit, pairs: int = PAIRS) -> Tensor:
    """From an image of one class to one of another, [2 R, STEPS + 2, C, H, W]: for each pair a linear and a spherical row.

    The first and the last column are the two images, those between are decoded from their posterior means onwards.
    """
    x = split.fixed_pixels(network.likelihood.space)[one_of_each(split, 2 * pairs).to(split.images.device)]
    mu = network.encode(x).mu
    share = torch.linspace(0, 1, STEPS, device=mu.device)
    rows = [
        torch.cat([start[None], network.generate(path(a, b, share)), end[None]])
        for start, end, a, b in zip(x[0::2], x[1::2], mu[0::2], mu[1::2], strict=True)
        for path in (linear, spherical)
    ]
    return torch.stack(rows)


def linear(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Points [M, L] of the straight line from a [L] to b [L], at shares [M] of the way."""
    return a + share[:, None] * (b - a)


def spherical(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Points [M, L] of the arc from a [L] to b [L], at shares [M] of the way (Shoemake 1985).

    Between points of one norm all have that norm; a straight line goes nearer to 0 than draws of a prior ever are.
    """
    cosine = torch.dot(a, b) / (a.norm() * b.norm()).clamp_min(1e-12)
    angle = cosine.clamp(-1, 1).arccos()
    if angle.sin() < 1e-4:
        return linear(a, b, share)
    start, end = ((1 - share) * angle).sin()[:, None], (share * angle).sin()[:, None]
    points: Tensor = (start * a + end * b) / angle.sin()
    return points


@torch.no_grad()
def traversals(network: VAE, split: ImageSplit, count: int = TRAVERSED) -> tuple[Tensor, Tensor]:
    """One latent dimension moved at a time from -FARTHEST to FARTHEST, the others those of the first image's posterior mean.

    Returns:
        Tiles [R, STEPS, C, H, W], and the dimensions [R], those whose posterior mean varies most first.
    """
    mu = encode(network, split.fixed_pixels(network.likelihood.space)).mu
    most_active = mu.var(dim=0, correction=0).argsort(descending=True)[:count]
    at = torch.linspace(-FARTHEST, FARTHEST, STEPS, device=mu.device)
    z = moved(mu[0], most_active, at)
    return _decoded(network, z), most_active.cpu()


def moved(z: Tensor, dimensions: Tensor, at: Tensor) -> Tensor:
    """Copies [R, M, L] of a latent [L], in each row one of the dimensions [R] set to the values [M]."""
    copies = z.repeat(len(dimensions), len(at), 1)
    copies[torch.arange(len(dimensions)), :, dimensions] = at
    return copies


def shared_classes(split: ImageSplit) -> list[int]:
    """Labels of the classes that have two images or more: the mean of one image is that image."""
    labels, counts = split.labels.unique(return_counts=True)
    found: list[int] = labels[counts > 1].tolist()
    return found


@torch.no_grad()
def arithmetic(network: VAE, split: ImageSplit, pairs: int = PAIRS) -> tuple[Tensor, list[tuple[int, int]]]:
    """The mean latent of a class, less that of another, added to an image of the other (White 2016; Radford et al. 2016).

    The classes of a pair are those nearest to each other, as the ends of a short way look most alike. Each pair has a row
    for each direction.

    Returns:
        Tiles [R, 3 + len(ADDED), C, H, W]: the image, decoded means of its class and of the other one, then the sums,
        of which `ADDED` says how much is added. The labels of image and other class of each row.

    Raises:
        ValueError: there are no two `shared_classes`.
    """
    classes = shared_classes(split)
    if len(classes) < 2:
        raise ValueError(f"two classes of two images or more are needed, but there are {len(classes)}")
    x = split.fixed_pixels(network.likelihood.space)
    mu = encode(network, x).mu
    means = {label: mu[split.labels == label].mean(dim=0) for label in classes}
    near = nearest_pairs(torch.stack([*means.values()]), pairs)
    shown = [(classes[a], classes[b]) for pair in near for a, b in (pair, pair[::-1])]
    share, rows = torch.tensor(ADDED, device=mu.device), []
    for own, other in shown:
        first = int((split.labels == own).nonzero()[0])
        sums = mu[first] + share[:, None] * (means[other] - means[own])
        z = torch.cat([means[own][None], means[other][None], sums])
        rows.append(torch.cat([x[first : first + 1], network.generate(z)]))
    return torch.stack(rows), shown


def nearest_pairs(points: Tensor, count: int) -> list[tuple[int, int]]:
    """Indices of `count` pairs of points [N, L] at most, the nearest first; no point is in two of them."""
    distance = torch.cdist(points, points)
    found: list[tuple[int, int]] = []
    for a, b in sorted(combinations(range(len(points)), 2), key=lambda pair: float(distance[pair])):
        if not {a, b} & {one for pair in found for one in pair}:
            found.append((a, b))
    return found[:count]


def plane(mu: Tensor) -> tuple[Tensor, float]:
    """Posterior means [N, L] in two dimensions, [N, 2], and the share of their variance that is in them.

    Two latents are shown as they are, more by their first two principal components, one beside zeros.
    """
    if mu.shape[1] <= 2:
        return pad(mu, (0, 2 - mu.shape[1])), 1.0
    centred = mu - mu.mean(dim=0)
    _, scales, components = torch.linalg.svd(centred, full_matrices=False)
    share = float(scales[:2].square().sum() / scales.square().sum().clamp_min(1e-12))
    return centred @ components[:2].T, share


def reconstruction_image(network: VAE, split: ImageSplit) -> Tensor:
    """`reconstructions` as an image [3, H, W] on the CPU."""
    return tiled(reconstructions(network, split))


def sample_image(network: VAE) -> Tensor:
    """`prior_samples` as an image [3, H, W] on the CPU, a row for each temperature, rising."""
    return tiled(prior_samples(network))


def _decoded(network: VAE, z: Tensor) -> Tensor:
    """Latents [R, M, L] -> tiles."""
    rows, columns, _ = z.shape
    images = network.generate(z.flatten(0, 1))
    return images.view(rows, columns, *images.shape[1:])


def tiled(tiles: Tensor) -> Tensor:
    """One image [3, H, W] in [0, 1] on the CPU of tiles [R, M, C, H, W], a gap around each."""
    coloured = tiles.cpu().clamp(0, 1).expand(-1, -1, 3, -1, -1)
    times = max(1, TILE_PX // tiles.shape[-1])
    coloured = coloured.repeat_interleave(times, dim=-1).repeat_interleave(times, dim=-2)
    coloured = pad(coloured, (GAP_PX, 0, GAP_PX, 0), value=GAP_GREY)
    image = coloured.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)
    return pad(image, (0, GAP_PX, 0, GAP_PX), value=GAP_GREY)
