"""Shapes of kernels, encircled energy and modulation transfer, against closed forms."""

import math

import pytest
import torch

from trainables.psf.mtf import mtf
from trainables.psf.shapes import encircled_energy, shape_of

SIDE = 41


def gaussian(long: float, short: float, angle: float, at: tuple[float, float] = (0, 0)) -> torch.Tensor:
    """[K, K] of standard deviations in pixels; the long axis at an angle from +x to +y, which is up."""
    axis = torch.arange(SIDE, dtype=torch.float64) - (SIDE - 1) / 2
    x, y = axis[None, :] - at[0], -axis[:, None] - at[1]
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    kernel = torch.exp(-((along / long) ** 2 + (across / short) ** 2) / 2)
    return kernel / kernel.sum()


@pytest.mark.parametrize("degrees", [0, 30, 90, 135])
def test_a_gaussian_has_the_ellipticity_of_its_axes(degrees):
    angle = math.radians(degrees)
    shape = shape_of(gaussian(4, 2, angle, at=(1.5, -0.7)))
    assert float(shape.size) == pytest.approx(4**2 + 2**2, rel=1e-4)
    assert float(shape.g1) == pytest.approx((4 - 2) / (4 + 2) * math.cos(2 * angle), abs=1e-4)
    assert float(shape.g2) == pytest.approx((4 - 2) / (4 + 2) * math.sin(2 * angle), abs=1e-4)


def test_the_light_within_a_radius_of_a_gaussian_and_of_one_pixel():
    radii = torch.tensor([0.0, 1.0, 2.0, 4.0, 8.0], dtype=torch.float64)
    found = encircled_energy(gaussian(3, 3, 0, at=(2.3, 1.1))[None, None], radii)
    assert found.shape == (1, 1, 5)
    assert found[0, 0].tolist() == pytest.approx(
        (1 - torch.exp(-(radii**2) / (2 * (3**2 + 1 / 12)))).tolist(), abs=2e-3
    )
    pixel = torch.zeros(5, 5, dtype=torch.float64)
    pixel[1, 3] = 1
    inside = encircled_energy(pixel, torch.tensor([0.25, 0.5, 1.0]))
    assert inside.tolist() == pytest.approx([math.pi / 16, math.pi / 4, 1], abs=0.03)


def test_lines_along_a_direction_are_blurred_by_the_width_in_it():
    kernel, angle = gaussian(4, 2, math.radians(30)), math.radians(30)
    frequencies = torch.linspace(0, 0.5, 101, dtype=torch.float64)
    for along, width in ((angle, 4), (angle + math.pi / 2, 2)):
        expected = torch.exp(-2 * (math.pi * width * frequencies) ** 2)
        torch.testing.assert_close(mtf(kernel[None], along)[0], expected, atol=1e-3, rtol=0)
    torch.testing.assert_close(mtf(kernel[None], 0.0), mtf(kernel[None], "x"))
