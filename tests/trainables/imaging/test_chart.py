"""The drawn test chart."""

import torch

from trainables.imaging.chart import COLOURS, SMOOTH, chart


def test_a_chart_has_light_between_dark_and_full_and_every_colour():
    light = chart(96, 160, cell=32)
    assert light.shape == (1, 3, 96, 160)
    assert 0 < light.min() < 0.05
    assert light.max() == 1
    pixels = light[0].flatten(1).T
    for colour in COLOURS:
        assert (pixels - torch.tensor(colour)).abs().amax(dim=1).min() < 1e-6


def test_its_pixels_gather_the_light_of_their_own_square():
    fine, coarse = chart(32 * SMOOTH, 32 * SMOOTH, cell=16 * SMOOTH), chart(32, 32, cell=16)
    gathered = torch.nn.functional.avg_pool2d(fine, SMOOTH)
    assert (gathered - coarse).abs().mean() < 0.01
