"""Kernel metrics on kernels whose error is known, and the model's metrics against the table of names."""

import math

import pytest
import torch

from spaces.system import system
from tests.trainables.psf.synthetic import blobs, grid, tensors
from trainables.networks.mlp import GaussianMLP
from trainables.psf.cvae import CVAE, CvaeConfig
from trainables.psf.metrics import centroid, evaluate, kernel_errors, kernel_metrics, rms_radius


def delta(row: int, column: int) -> torch.Tensor:
    kernel = torch.zeros(1, 1, 9, 9)
    kernel[..., row, column] = 1
    return kernel


def test_equal_kernels_have_no_error():
    kernels = torch.from_numpy(blobs(grid(3)))
    values = kernel_metrics(kernels, kernels)
    assert values == pytest.approx(
        {"prior_rel_l2": 0, "prior_psnr": 200, "prior_centroid_px": 0, "prior_radius_error_px": 0}, abs=1e-4
    )


def test_a_shifted_delta():
    values = kernel_metrics(delta(4, 7), delta(4, 4))
    assert values["prior_rel_l2"] == pytest.approx(math.sqrt(2))
    assert values["prior_centroid_px"] == pytest.approx(3)
    assert values["prior_radius_error_px"] == pytest.approx(0)
    assert values["prior_psnr"] == pytest.approx(10 * math.log10(81 / 2), rel=1e-5)


def test_centroid_and_radius():
    torch.testing.assert_close(centroid(delta(2, 7)), torch.tensor([[[3.0, -2.0]]]))
    torch.testing.assert_close(rms_radius((delta(4, 2) + delta(4, 6)) / 2), torch.tensor([[2.0]]))


def test_relative_error_is_taken_per_kernel_over_all_channels_before_the_mean():
    true = torch.cat([delta(4, 4), delta(4, 4)], dim=1).repeat(2, 1, 1, 1)
    predicted = true.clone()
    predicted[0, 0] *= 1.5
    assert kernel_metrics(predicted, true)["prior_rel_l2"] == pytest.approx((0.5 / math.sqrt(2) + 0) / 2)


def test_errors_are_of_each_kernel_and_metrics_are_their_means():
    true = delta(4, 4).repeat(3, 2, 1, 1)
    predicted = true.clone()
    predicted[1, 1] = delta(4, 7)[0, 0]  # one channel of two is 3 px off
    predicted[2, 0] = (delta(4, 2) + delta(4, 6))[0, 0] / 2  # one channel of two has radius 2 px, energy 1/2
    errors = kernel_errors(predicted, true)
    expected: dict[str, list[float]] = {
        "prior_rel_l2": [0, 1, math.sqrt((1 + 0.5) / 2)],
        "prior_psnr": [200, 10 * math.log10(2 * 81 / 2), 10 * math.log10(2 * 81 / 1.5)],
        "prior_centroid_px": [0, 1.5, 0],
        "prior_radius_error_px": [0, 0, 1],
    }
    assert list(errors) == list(expected)
    for name, values in expected.items():
        torch.testing.assert_close(errors[name], torch.tensor(values, dtype=torch.float32), atol=1e-5, rtol=1e-5)
        assert kernel_metrics(predicted, true)[name] == pytest.approx(sum(values) / 3, rel=1e-5)


def test_a_model_reports_every_validation_metric_of_the_table(tmp_path):
    data = tensors(tmp_path)
    torch.manual_seed(0)
    model = CVAE(CvaeConfig(2, 9, {}, latent_dim=4, hidden_dim=16, num_layers=2, fourier_bands=2))
    values = evaluate(model, data)
    assert set(values) == {name for name in system("cvae_psf").metrics if name.startswith("val/")}
    assert values["val/prior_gap"] == pytest.approx(values["val/prior_rel_l2"] - values["val/posterior_rel_l2"])
    direct = kernel_metrics(model.predict(data.validation.points).detach(), data.validation.kernels)
    assert values["val/prior_rel_l2"] == pytest.approx(direct["prior_rel_l2"])


def test_active_units_are_the_dimensions_in_which_the_posterior_leaves_the_prior(tmp_path):
    data = tensors(tmp_path)
    model = CVAE(CvaeConfig(2, 9, {}, latent_dim=4, hidden_dim=16, num_layers=2, fourier_bands=2))
    assert evaluate(model, data)["val/active_units"] == 0
    assert isinstance(model.encoder, GaussianMLP)
    with torch.no_grad():
        model.encoder.mlp.head.weight[:3] = 1.0  # three of the four means now follow the kernel
    assert evaluate(model, data)["val/active_units"] == 3
