"""Pictures of kernels: the numbers behind them, and that they can be drawn."""

from __future__ import annotations

import io

import numpy as np
import pytest

from trainables.psf.figures import psf_grid, psf_grid_figure


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
    grid = psf_grid(true, true / 2, np.zeros((2, 2)))
    assert grid.true.max() == 1
    assert np.allclose(grid.generated, grid.true * np.sqrt(0.5))
    assert np.allclose(grid.error, 0.5)
    assert grid.residual.min() == pytest.approx(-0.5)


def test_errors_of_opposite_sign_do_not_cancel_between_channels():
    true = kernels(1, 3)
    generated = true.copy()
    generated[:, 0] *= 1.1
    generated[:, 1] *= 0.9
    assert np.abs(psf_grid(true, generated, np.zeros((1, 2))).residual).max() == pytest.approx(0.1)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_grid_can_be_drawn(channels):
    true = kernels(4, channels)
    assert drawn(psf_grid_figure(true, true, np.zeros((4, 2)))).startswith(b"\x89PNG")
