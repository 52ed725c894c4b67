"""Pictures of kernels: the numbers behind them, and that they can be drawn."""

from __future__ import annotations

import io

import numpy as np
import pytest

from tests.trainables.psf.synthetic import tensors
from trainables.psf.cvae import CVAE, CvaeConfig
from trainables.psf.figures import FOCUS_RADIUS, FOCUS_STEPS, defocus_of, psf_grid, psf_grid_figure, through_focus
from trainables.psf.learner import CvaePsfLearner


def kernels(count: int, channels: int) -> np.ndarray:
    values = np.random.default_rng(0).random((count, channels, 9, 9))
    return values / values.sum(axis=(2, 3), keepdims=True)


def drawn(figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, dpi=50)
    return file.getvalue()


def test_true_and_generated_share_one_scale():
    """A generated kernel of half the brightness is drawn darker, not stretched to its own peak."""
    true = kernels(2, 3)
    grid = psf_grid(true, true / 2)
    assert grid.true.max() == 1
    assert np.allclose(grid.generated, grid.true * np.sqrt(0.5))
    assert np.allclose(grid.error, 0.5)
    assert grid.residual.min() == pytest.approx(-0.5)


def test_errors_of_opposite_sign_do_not_cancel_between_channels():
    true = kernels(1, 3)
    generated = true.copy()
    generated[:, 0] *= 1.1
    generated[:, 1] *= 0.9
    assert np.abs(psf_grid(true, generated).residual).max() == pytest.approx(0.1)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_grid_can_be_drawn_with_its_captions(channels):
    true = kernels(4, channels)
    figure = psf_grid_figure(true, true, "title", [*"abcd"], ["e\nf", "g", "h", "i"])
    assert drawn(figure).startswith(b"\x89PNG")
    texts = [text.get_text() for axis in figure.axes for text in (axis.title, axis.xaxis.label)]
    assert {"a", "d", "0.000\ne\nf", "0.000\ni"} <= set(texts)
    assert "0.000" in [axis.get_xlabel() for axis in psf_grid_figure(true, true, "title", [*"abcd"]).axes]


def test_defocus_is_positive_nearer_than_the_focus():
    points = np.array([[0, 0, -5000, -10000], [0.5, 0.5, -20000, -10000]])
    assert np.allclose(defocus_of(points, ("x", "y", "depth_mm", "focus_mm")), [0.1, -0.05])
    assert np.allclose(defocus_of(points[:, :3], ("x", "y", "depth_mm")), [0.2, 0.05])
    assert np.allclose(defocus_of(points[:, :3], ("x", "y", "focus_mm")), [-0.2, -0.05])


def test_steps_through_focus_are_even_and_at_one_distance_from_the_centre():
    random = np.random.default_rng(0)
    defocus, radius = random.uniform(-0.1, 0.2, 5000), random.uniform(0, 1.4, 5000)
    chosen = through_focus(defocus, radius)
    assert np.allclose(defocus[chosen], np.linspace(-0.1, 0.2, FOCUS_STEPS), atol=0.01)
    assert np.allclose(radius[chosen], FOCUS_RADIUS, atol=0.05)
    few = through_focus(np.zeros(3), np.ones(3))
    assert sorted(few) == [0, 1, 2]


@pytest.mark.parametrize("depths", [(-10000.0,), (-10000.0, -2000.0)])
def test_a_model_of_several_depths_is_shown_through_focus(tmp_path, depths):
    data = tensors(tmp_path, depths=depths)
    model = CVAE(CvaeConfig(2, 9, data.diopter_ranges, latent_dim=3, hidden_dim=8, num_layers=1, fourier_bands=1))
    figures = CvaePsfLearner().figures(model, data.validation)
    assert set(figures) == {"psfs"} | ({"through_focus"} if len(depths) > 1 else set())
    for draw in figures.values():
        draw()
