"""Restoration: what is kept, what comes back, closed forms."""

import math

import pytest
import torch
from torch import Tensor

from tests.trainables.imaging.test_operators import SIZE, image, kernels, places
from trainables.imaging.operators import Chain
from trainables.imaging.patches import PatchBlur
from trainables.imaging.restore import richardson_lucy, wiener
from trainables.imaging.warp import Warp

SIDE = 64


def spots(grid: int = 4, side: int = 9) -> Tensor:
    """A map of Gaussian kernels that widen to the right, one channel."""
    axis = torch.arange(side, dtype=torch.float64) - side // 2
    width = torch.linspace(0.8, 1.6, grid, dtype=torch.float64)
    line = (-(axis.square()) / (2 * width[:, None].square())).exp()
    found = (line[:, :, None] * line[:, None, :])[None, :, None].expand(grid, -1, -1, -1, -1)
    return found / found.sum(dim=(-2, -1), keepdim=True)


def discs() -> Tensor:
    """A scene of bright discs before a dim background."""
    y, x = torch.meshgrid(*2 * [torch.arange(SIDE, dtype=torch.float64)], indexing="ij")
    scene = torch.full((SIDE, SIDE), 0.05, dtype=torch.float64)
    for row, column, radius in ((15, 20, 8), (45, 12, 5), (30, 48, 9), (52, 50, 4)):
        scene[(y - row).square() + (x - column).square() < radius**2] = 1.0
    return scene[None, None]


@pytest.mark.parametrize("iterations", [1, 2, 5])
def test_richardson_lucy_keeps_the_light_and_stays_above_zero(iterations: int):
    operator = Chain(Warp(places()), PatchBlur(kernels(5), SIZE))
    seen = operator(image())
    found = richardson_lucy(operator, seen, iterations)
    assert found.min() >= 0
    torch.testing.assert_close(operator(found).sum(), seen.sum())


def test_richardson_lucy_comes_closer_with_each_iteration():
    blur = PatchBlur(spots(), (SIDE, SIDE))
    seen = blur(discs())
    errors = [(richardson_lucy(blur, seen, n) - discs()).norm() for n in (0, 5, 20, 80)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.7 * (seen - discs()).norm()


def test_richardson_lucy_leaves_a_scene_that_explains_the_picture():
    blur = PatchBlur(spots(), (SIDE, SIDE))
    found = richardson_lucy(blur, blur(discs()), 3, start=discs())
    torch.testing.assert_close(found, discs())


def test_a_black_picture_stays_black():
    black = torch.zeros(1, 2, *SIZE, dtype=torch.float64)
    assert not richardson_lucy(PatchBlur(kernels(3), SIZE), black, 2).any()


@pytest.mark.parametrize("noise", [1e-3, 1e-1])
@pytest.mark.parametrize("side", [8, 9])
def test_wiener_weighs_a_wave_by_what_is_left_of_it(side: int, noise: float):
    """A wave of one frequency is an eigenvector: |H|^2 / (|H|^2 + noise |D|^2) of it comes back."""
    kernel = torch.zeros(1, 1, 1, side, side, dtype=torch.float64)
    kernel[..., side // 2, side // 2 - 1 : side // 2 + 2] = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64)
    frequency = 1 / 8
    wave = 0.5 + 0.4 * (2 * torch.pi * frequency * torch.arange(SIDE, dtype=torch.float64)).cos()
    scene = wave.expand(1, 1, SIDE, SIDE)
    transfer = 0.5 + 0.5 * math.cos(2 * math.pi * frequency)
    differences = 4 * math.sin(math.pi * frequency) ** 2
    kept = transfer**2 / (transfer**2 + noise * differences)
    found = wiener(kernel.expand(2, 3, -1, -1, -1), PatchBlur(kernel, (SIDE, SIDE))(scene), noise)
    inside = (..., slice(16, -16), slice(24, -24))
    torch.testing.assert_close(found[inside], (0.5 + kept * (scene - 0.5))[inside], rtol=0, atol=5e-3)


def test_wiener_makes_a_blurred_picture_sharper_and_keeps_an_even_one():
    blur = PatchBlur(spots(), (SIDE, SIDE))
    seen = blur(discs()) + 0.002 * torch.randn(
        1, 1, SIDE, SIDE, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    assert (wiener(spots(), seen, 1e-3) - discs()).norm() < 0.7 * (seen - discs()).norm()
    even = torch.full_like(seen, 0.4)
    torch.testing.assert_close(wiener(spots(), even), even)


def test_wiener_has_no_seams():
    """Of one kernel, however many patches there are."""
    one = spots()[:1, 2:3]
    seen = PatchBlur(one, (SIDE, SIDE))(discs())
    whole, parts = (wiener(one.expand(n, n, -1, -1, -1), seen, 1e-2) for n in (1, 4))
    assert (whole - parts).abs().max() < 0.01


def test_refusals():
    with pytest.raises(ValueError, match="noise"):
        wiener(spots(), discs(), 0.0)
    with pytest.raises(ValueError, match="iterations"):
        richardson_lucy(PatchBlur(spots(), (SIDE, SIDE)), discs(), -1)
