"""Measured kernels brought to their centre, and what tells noise from background."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests.trainables.asbuilt.synthetic import kernels_of
from trainables.asbuilt.kernel_checks import checked_kernels
from trainables.asbuilt.network import AsBuiltConfig
from trainables.asbuilt.recentring import Border, centroid_of_light, recentred
from trainables.psf.metrics import centroid

SIDE, NOISE = 32, 0.02
CONFIG = AsBuiltConfig(2, SIDE, 48, 6, 64, 2, 2, 3)


def gaussians(centres, width=1.5):
    """[N, K, K] about centres [N, 2], in pixels right and down from the middle."""
    axis = np.arange(SIDE) - (SIDE - 1) / 2
    across, down = (np.exp(-0.5 * ((axis - at[:, None]) / width) ** 2) for at in np.asarray(centres).T)
    images = down[:, :, None] * across[:, None, :]
    return images / images.sum(axis=(1, 2), keepdims=True)


@pytest.fixture(scope="module")
def lopsided():
    """[48, C, K, K] of six units, and where they are, all centred."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (48, 2))
    parts = [kernels_of(rng.normal(size=3), at, SIDE) for at in np.split(points, 6)]
    return np.concatenate(parts).astype(np.float64), points


def noisy(kernels, share=NOISE, seed=0):
    """White noise of a share of each channel's norm."""
    norm = np.sqrt((kernels**2).sum(axis=(-2, -1), keepdims=True))
    return kernels + share * norm / kernels.shape[-1] * np.random.default_rng(seed).standard_normal(kernels.shape)


def test_a_gaussian_comes_to_the_middle_and_colours_stay_apart():
    rng = np.random.default_rng(0)
    at, apart = rng.uniform(-3, 3, (20, 2)), np.array([0.4, -0.3])
    seen = torch.from_numpy(np.stack([gaussians(at + apart), gaussians(at)], axis=1))
    moved = recentred(seen, 1)
    assert moved.dtype == seen.dtype
    middle = np.zeros_like(at)
    expected = np.stack([gaussians(middle + apart), gaussians(middle)], axis=1)
    np.testing.assert_allclose(moved, expected, atol=0.01 * expected.max())


def test_noise_far_from_the_light_does_not_move_the_centroid(lopsided):
    green = lopsided[0][:, 1]
    clean, seen = (np.array([centroid_of_light(image) for image in images]) for images in (green, noisy(green)))
    plain = centroid(torch.from_numpy(noisy(green))[:, None])[:, 0].numpy()
    off, of_all = (float(np.sqrt((one**2).sum(axis=1).mean())) for one in (seen, plain))
    assert np.abs(clean).max() < 1e-3
    assert off < 0.03
    assert off < of_all / 2


@pytest.mark.parametrize("level", [-1e-4, 1e-4])
def test_a_pedestal_does_not_move_the_centroid_and_is_found(level):
    (image,) = gaussians([[2.2, -1.3]])
    border = Border.of(image + level)
    assert border.pedestal == pytest.approx(level, rel=1e-3)
    np.testing.assert_allclose(centroid_of_light(image + level), [2.2, -1.3], atol=0.01)


def test_light_that_reaches_a_side_is_no_pedestal():
    (image,) = gaussians([[12.0, 0.0]])
    assert Border.of(image).pedestal == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("disturbed", [noisy, lambda kernels: noisy(kernels).clip(0)], ids=["white", "rectified"])
def test_the_noise_that_a_model_is_trained_with_is_no_reason_to_refuse(lopsided, disturbed):
    kernels, points = lopsided
    for part in np.split(np.arange(len(kernels)), 2):
        found = checked_kernels(CONFIG, disturbed(kernels[part]), points[part], None)
        assert float((found.kernels.sum(dim=(-2, -1)) - 1).abs().max()) < 1e-5
        if disturbed is noisy:
            assert float(found.noise.mean()) == pytest.approx(NOISE, rel=0.2)


@pytest.mark.parametrize(("share", "words"), [(-0.04, "too much background"), (0.2, "background was not subtracted")])
def test_a_pedestal_is_refused_whatever_the_noise(lopsided, share, words):
    kernels, points = lopsided[0][:4], lopsided[1][:4]
    level = share * np.sqrt((kernels**2).sum(axis=(-2, -1), keepdims=True)) / SIDE
    for seen in (kernels + level, noisy(kernels) + level):
        with pytest.raises(ValueError, match=words):
            checked_kernels(CONFIG, seen, points, None)


def test_the_channel_that_kernels_are_centred_by_must_be_measured(lopsided):
    kernels, points = lopsided
    colours = dataclasses.replace(CONFIG, wavelengths=(0.656, 0.486))
    with pytest.raises(ValueError, match=r"channel 1, 0.486 um must be measured, because kernels are centred by it"):
        checked_kernels(colours, kernels[:4, :1], points[:4], [0])
