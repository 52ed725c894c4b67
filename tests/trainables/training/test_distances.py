"""Distances between images against closed forms and other libraries."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from trainables.training.distances import Distances, at_scales, dissimilarity, l1
from trainables.training.spectral import SPECTRA, coefficients, complex_l1, mean_over_spectrum, radial, shares
from trainables.training.ssim import ssim


def pair(px: int = 24, channels: int = 1, count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise in [0, 1], and it with more noise."""
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(count, channels, px, px, generator=generator, dtype=torch.float64)
    return a, (a + 0.2 * torch.randn(a.shape, generator=generator, dtype=torch.float64)).clamp(0, 1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("px", [11, 24, 33])
def test_ssim_is_skimages(px, channels):
    a, b = pair(px, channels)
    expected = [
        structural_similarity(
            x.numpy(),
            y.numpy(),
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            channel_axis=0,
        )
        for x, y in zip(a, b, strict=True)
    ]
    assert ssim(a, b).tolist() == pytest.approx(expected, abs=1e-10)
    assert ssim(a.float(), b.float()).tolist() == pytest.approx(expected, abs=1e-5)


def test_ssim_of_equal_images_is_one():
    a, _ = pair()
    assert ssim(a, a).tolist() == pytest.approx([1, 1, 1])
    small = a[..., :10, :10]  # smaller than the window
    assert ssim(small, small).tolist() == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("px", [6, 7])
def test_the_mean_square_over_the_spectrum_is_that_over_pixels(px):
    """Parseval; without the shares of the half spectrum's columns it is not."""
    a, b = pair(px)
    squares = coefficients(a - b).abs().square()
    mse = (a - b).square().flatten(1).mean(dim=1)
    torch.testing.assert_close(mean_over_spectrum(squares, px), mse, atol=1e-12, rtol=1e-10)
    assert (squares.flatten(1).mean(dim=1) - mse).abs().max() > 1e-4
    assert (shares(px, px, a) * px).sum().item() == pytest.approx(1)


@pytest.mark.parametrize("px", [6, 7])
def test_the_spectral_l1_is_numpys_over_the_whole_spectrum(px):
    a, b = pair(px)
    expected = np.abs(np.fft.fft2((a - b).numpy(), norm="ortho")).mean(axis=(1, 2, 3))
    assert complex_l1(a, b).tolist() == pytest.approx(expected.tolist())


@pytest.mark.parametrize("px", [6, 7])
def test_the_radial_term_is_numpys_weighted_by_frequency(px):
    a, b = pair(px)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(px), np.fft.fftfreq(px), indexing="ij"))
    values = np.abs(np.fft.fft2((a - b).numpy(), norm="ortho")) * frequency / frequency.mean()
    assert radial(a, b).tolist() == pytest.approx(values.mean(axis=(1, 2, 3)).tolist())
    assert radial(a, a + 0.1).tolist() == pytest.approx([0] * 3, abs=1e-12)  # a constant has no frequency


def test_magnitudes_do_not_see_where_details_are():
    a, b = pair()
    moved = a.roll(5, dims=-1)
    assert SPECTRA["log_magnitude"](moved, a).max() < 1e-12
    assert complex_l1(moved, a).min() > 0.1
    blurred = torch.nn.functional.avg_pool2d(a, 3, stride=1, padding=1)
    assert (SPECTRA["log_magnitude"](blurred, a) > SPECTRA["log_magnitude"](b, a)).all()


def test_scales_are_means_of_squares_of_pixels_and_equal_parts():
    a, b = pair(8)
    means = [
        np.abs((a - b).numpy().reshape(3, 8 // size, size, 8 // size, size).mean(axis=(2, 4))).mean(axis=(1, 2))
        for size in (1, 2, 4)
    ]
    assert at_scales(l1, a, b, 3).tolist() == pytest.approx(np.mean(means, axis=0).tolist())


def test_a_constant_image_is_at_no_distance_from_itself_at_any_scale():
    grey = torch.full((2, 1, 48, 48), 0.3)
    for distance in (l1, dissimilarity):
        assert at_scales(distance, grey, grey, 3).abs().max() < 1e-6
    assert at_scales(l1, grey, grey + 0.1, 3).tolist() == pytest.approx([0.1, 0.1])


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_all_are_zero_for_equal_images_and_have_gradients_there_and_elsewhere(spectrum):
    a, b = (one.float() for one in pair(24, 3))
    distances = Distances(("l1", "dissimilarity", "spectral"), scales=2, spectrum=spectrum)
    assert list(distances(a, b)) == ["l1", "dissimilarity", "spectral"]
    for value in distances(a, a.clone()).values():
        assert value.shape == (3,)
        assert value.abs().max() < 1e-5
    for other in (a, b):
        images = other.clone().requires_grad_()
        sum(distances(images, a).values(), torch.zeros(())).sum().backward()
        assert images.grad is not None
        assert images.grad.isfinite().all()


def test_only_what_is_named_is_computed():
    a, b = pair(8)  # too small for SSIM
    assert list(Distances(("l1",))(a, b)) == ["l1"]
    assert Distances(("l1",))(a, b)["l1"].tolist() == pytest.approx((a - b).abs().mean(dim=(1, 2, 3)).tolist())
    assert math.isfinite(float(Distances(("spectral",))(a, b)["spectral"].sum()))
