"""DeepLens' own network as a baseline: it answers in our conventions, it learns, and a seed repeats it."""

import math

import numpy as np
import pytest
import torch

from deeplens_workers.dataset import random_points, tracings
from deeplens_workers.lens_file import find_lens
from deeplens_workers.psf_data import PsfData
from deeplens_workers.psfnet import SIDE, train_psfnet
from deeplens_workers.render import load
from trainables.psf.metrics import relative_l2

LENS = find_lens("cooke_triplet_50mm")


def section(**changes) -> PsfData:
    fields = {
        "lens": LENS.name,
        "pixel_pitch_um": 3.2,
        "trace_px": 64,
        "kernel_px": 16,
        "wavelengths_um": (0.656, 0.587, 0.486),
        "depths_mm": (-5000, -20000),
        "focus_mm": (-6000, -15000),
        "rays": 1024,
        "held_out_rays": 8192,
    }
    return PsfData(**(fields | changes))


DATA = section()


def trained(steps, seed=0, data=DATA, **options):
    return train_psfnet(LENS, data, 1.0, seed, steps=steps, **options)


@pytest.fixture(scope="module")
def held_out():
    """Points of every quadrant, and their true kernels."""
    points = random_points(DATA, 24, np.random.default_rng(1), share=12)
    return points, load(LENS, DATA.pixel_pitch_um).render(points, tracings(DATA)[1]).kernels


@pytest.fixture(scope="module")
def untrained():
    return trained(1, batch_size=2)


def errors(predicted, true):
    return relative_l2(torch.from_numpy(predicted), torch.from_numpy(true))


class Traced:
    """In the network's place: what it is to learn, as its sampler traces it."""

    def __init__(self, lens):
        self._lens = lens

    def __call__(self, inputs):
        kernels = []
        for fov, depth, focus in inputs.tolist():
            self._lens.refocus(1000 * focus)
            height = self._lens.foclen * math.tan(fov) / self._lens.r_sensor
            kernels.append(self._lens.psf_rgb(points=torch.tensor([[0.0, height, 1000 * depth]]), ks=SIDE))
        return torch.cat(kernels)


def test_what_it_is_trained_on_is_our_kernel_at_every_azimuth(held_out):
    points, true = held_out[0][::4], held_out[1][::4]
    net = trained(1, batch_size=2)
    net.net.psfnet = Traced(net.net.lens)
    assert np.prod(np.sign(points[:, :2]), axis=1).min() < 0 < np.prod(np.sign(points[:, :2]), axis=1).max()
    right = net.kernels(points)
    np.testing.assert_allclose(right.sum((-1, -2)), 1, rtol=1e-5)
    assert errors(right, true).mean() < 0.08
    for wrong in (right[..., ::-1, :], right[..., ::-1], right.swapaxes(-1, -2), np.roll(right, 1, axis=-1)):
        assert errors(wrong.copy(), true).mean() > 0.25
    mirrored = points * np.array([-1, 1, 1, 1], np.float32)
    assert errors(net.kernels(mirrored), true).mean() > 0.25


@pytest.mark.slow
def test_it_learns_and_tells_what_that_took(held_out, untrained):
    points, true = held_out
    net = trained(30, batch_size=3, learning_rate=3e-3)
    before, after = errors(untrained.kernels(points), true).mean(), errors(net.kernels(points), true).mean()
    assert after < 0.7 * before
    assert net.steps == 30
    assert 0 < net.tracing_seconds < net.training_seconds
    assert net.bytes == untrained.bytes > 4 * 4_800_000


def test_a_seed_repeats_it_and_nothing_else_is_moved(held_out, untrained):
    points = held_out[0][:3]
    numpy_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    again, other = trained(1, batch_size=2), trained(1, seed=1, batch_size=2)
    np.testing.assert_array_equal(again.kernels(points), untrained.kernels(points))
    assert not np.array_equal(other.kernels(points), untrained.kernels(points))
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state)


def test_its_steps_fit_the_time():
    net = train_psfnet(LENS, DATA, 0.01, 0, batch_size=2)
    assert net.steps == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"wavelengths_um": (0.5,)}, "three channels"),
        ({"focus_mm": ()}, "focus_mm"),
        ({"recenter": False}, "chief ray"),
        ({"trace_px": 200, "kernel_px": 150}, "kernel_px <= 128"),
    ],
)
def test_what_it_cannot_answer_for_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        trained(1, data=section(**changes))
