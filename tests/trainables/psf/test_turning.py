"""Turned kernels against those that are traced where they are turned to."""

import numpy as np
import pytest
import torch

from deeplens_workers.dataset import in_frame, random_points, tracings, training
from deeplens_workers.psf_data import PsfData
from tests.trainables.psf.meridional import kernels, meridional, turned
from trainables.psf.metrics import centroid, relative_l2
from trainables.psf.turning import Turning, at_random_azimuths

SHARP = {"pixel_pitch_um": 3.2, "trace_px": 64, "kernel_px": 32, "rays": 2**15, "held_out_rays": 2**18}


def azimuths(data: PsfData, points: torch.Tensor) -> torch.Tensor:
    return torch.atan2(turned(data).aspect * points[:, 1], points[:, 0])


@pytest.mark.parametrize(
    ("sensor_mm", "pixels"),
    [
        ((25.0, 25.0), {}),
        ((30.0, 20.0), {}),
        ((30.0, 20.0), {"pixel_filter": "triangle"}),
        ((30.0, 20.0), {"pixel_pitch_um": 6.4, "trace_px": 32}),
        ((30.0, 20.0), {"pixel_pitch_um": 6.4, "trace_px": 32, "pixel_filter": "triangle"}),
    ],
)
def test_a_turned_kernel_is_the_one_traced_at_its_azimuth(sensor_mm, pixels):
    """In all quadrants, on the axes, and where the lens is focused; whatever the sensor's pixels gather."""
    data, lens = meridional(sensor_mm=sensor_mm, depths_mm=(-10000,), **(SHARP | pixels))
    xy = [[0.4, 0.0], [0.5, 0.3], [0.0, 0.9], [-0.6, 0.8], [-0.7, 0.0], [-0.2, -0.9], [1.0, -1.0]]
    points = np.column_stack([xy, np.full(len(xy), -10000.0)]).astype(np.float32)
    smooth = kernels(lens, in_frame(data, points), training(data))
    found = Turning(turned(data), data.kernel_px)(smooth, azimuths(data, torch.from_numpy(points)))
    true = kernels(lens, points, (data.pixel_pitch_um, tracings(data)[1]))
    errors = relative_l2(found, true)
    assert errors.mean() < 0.0125
    assert errors.max() < 0.02
    mirrored = relative_l2(found.flip(-2), true)
    assert mirrored[[1, 3, 5, 6]].min() > 10 * errors.max()  # what would be seen of a wrong orientation
    torch.testing.assert_close(found.sum(dim=(-2, -1)), torch.ones(found.shape[:2]))
    assert found.min() >= 0


def test_its_gradient_is_that_of_a_finite_difference():
    data, lens = meridional()
    at = np.array([[0.3, 0.0, -10000], [0.8, 0.0, -5000], [1.1, 0.0, -4000]], np.float32)
    smooth = kernels(lens, at, training(data)).double()
    turning = Turning(turned(data), data.kernel_px).double()
    weight = torch.randn(8, 8, generator=torch.Generator().manual_seed(0)).double()
    azimuth = torch.tensor([0.3, 1.7, -2.8], dtype=torch.float64, requires_grad=True)

    def value(angle: torch.Tensor) -> torch.Tensor:
        weighted: torch.Tensor = (turning(smooth, angle) * weight).sum(dim=(1, 2, 3))
        return weighted

    (gradient,) = torch.autograd.grad(value(azimuth).sum(), azimuth)
    step = 1e-4
    difference = (value(azimuth.detach() + step) - value(azimuth.detach() - step)) / (2 * step)
    torch.testing.assert_close(gradient, difference, rtol=1e-3, atol=1e-5)
    assert gradient.abs().min() > 1e-4


def test_a_quarter_turn_is_exact_and_upwards_is_from_x_to_y():
    data, _ = meridional()
    turning = Turning(turned(data), data.kernel_px)
    places = torch.linspace(-1, 1, turning.samples)
    blob = torch.exp(-((places - 0.3) ** 2) / 0.02) * torch.exp(-(places[:, None] ** 2) / 0.04)
    first, second = turning(blob.expand(2, 1, -1, -1), torch.tensor([0.0, torch.pi / 2]))
    torch.testing.assert_close(second, torch.rot90(first, dims=(-2, -1)), atol=1e-5, rtol=0)
    right, down = centroid(second[None])[0, 0]
    assert abs(right) < 0.01
    assert down < -1  # rows run downwards


def test_points_at_random_azimuths_are_on_the_sensor_as_far_from_its_centre_and_have_their_kernels():
    data, lens = meridional(rays=2**14, held_out_rays=2**17)
    on_sensor = random_points(data, 60, np.random.default_rng(0), share=1)
    on_sensor[:4, :2] = [[0, 0], [1, 1], [1, 0], [0, 1]]
    points = in_frame(data, on_sensor)
    smooth = kernels(lens, points, training(data))
    turns = torch.rand(60, generator=torch.Generator().manual_seed(0))
    placed, found = at_random_azimuths(turned(data), torch.from_numpy(points), smooth, turns, data.kernel_px)
    assert placed[:, :2].abs().max() <= 1 + 1e-6
    np.testing.assert_allclose(in_frame(data, placed.numpy()), points, atol=1e-6)
    assert len({(bool(x > 0), bool(y > 0)) for x, y in placed[:, :2]}) == 4
    assert found.shape == (60, 2, 8, 8)
    assert not found.requires_grad
    # Of the points where they have come to lie.
    true = kernels(lens, placed.numpy(), (data.pixel_pitch_um, tracings(data)[1]))
    errors = relative_l2(found, true)
    assert errors.mean() < 0.03
    assert relative_l2(found, true.roll(1, dims=0)).mean() > 5 * errors.mean()


def test_turns_reach_every_azimuth_that_is_on_the_sensor():
    data, _ = meridional()
    how, radius = turned(data), 0.9  # beyond the sensor's upper edge
    count = 400
    points = torch.tensor([radius, 0.0, -5000.0]).repeat(count, 1)
    turns = torch.arange(count) / count
    placed, _ = at_random_azimuths(how, points, torch.ones(count, 1, 32, 32), turns, data.kernel_px)
    angles = torch.atan2(how.aspect * placed[:, 1], placed[:, 0]).sort().values
    inside = (radius * angles.sin()).abs() <= how.aspect + 1e-6
    assert inside.all()
    gaps = torch.cat([angles[1:], angles[:1] + 2 * torch.pi]) - angles
    excluded = torch.pi - 2 * torch.asin(torch.tensor(how.aspect / radius))
    assert (gaps > 0.1).sum() == 2  # above and below
    torch.testing.assert_close(gaps.topk(2).values, excluded.expand(2), atol=0.03, rtol=0)
