"""Interpolation of the train grid on fields where the right answer is known."""

import numpy as np
import pytest
import torch

from tests.trainables.synthetic import grid, tensors, write_set
from trainables.baselines import BASELINES, RBF_DENSE, interpolate, score_baselines
from trainables.data import PsfSplit, select


def bilinear_field(points: np.ndarray) -> np.ndarray:
    """A field a + b x + c y + d x y (+ e / depth) of two-pixel kernels."""
    x, y = points[:, 0], points[:, 1]
    value = 2 + 0.3 * x - 0.2 * y + 0.1 * x * y + 0.5 * 1000 / np.abs(points[:, 2])
    return np.stack([value, 4 - value], axis=1).reshape(-1, 1, 1, 2).astype(np.float32)


@pytest.mark.parametrize("depths", [(-10000.0,), (-10000.0, -2000.0, -500.0)])
def test_bilinear_is_exact_on_a_bilinear_field(tmp_path, depths):
    random = np.random.default_rng(0)
    train, vergences = grid(5, depths), 1000 / np.abs(depths)
    depth = -1000 / random.uniform(vergences.min(), vergences.max(), 50)
    held_out = np.column_stack([random.uniform(-1, 1, (50, 2)), depth]).astype(np.float32)
    conditions = ("x", "y") if len(depths) == 1 else ("x", "y", "depth_mm")
    split = PsfSplit.load(write_set(tmp_path / "train", train, bilinear_field(train)), conditions)
    if len(depths) == 1:
        held_out[:, 2] = depths[0]
    predicted = interpolate("bilinear", split, torch.from_numpy(select(held_out, conditions)))
    np.testing.assert_allclose(predicted, bilinear_field(held_out), atol=1e-5)


@pytest.mark.parametrize("depths", [(-10000.0,), (-10000.0, -500.0)])
@pytest.mark.parametrize("name", ["nearest", "bilinear", "rbf_cubic"])
def test_every_interpolation_reproduces_the_grid_in_any_order(tmp_path, name, depths):
    data = tensors(tmp_path, depths=depths)
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    shuffled = PsfSplit(data.train.kernels[order], data.train.points[order])
    torch.testing.assert_close(interpolate(name, shuffled, data.train.points), data.train.kernels, atol=1e-5, rtol=0)


def test_on_a_smooth_field_a_higher_order_is_better(tmp_path):
    data = tensors(tmp_path, side=10)
    errors = {name: values["prior_rel_l2"] for name, values in score_baselines(data.train, data.validation).items()}
    assert errors["rbf_cubic"] < 0.5 * errors["bilinear"] < 0.25 * errors["nearest"]


def test_on_a_large_grid_over_depths_and_focus_the_rbf_is_exact_at_its_points_and_linear_between_planes():
    axis, depths, focuses = np.linspace(-1, 1, 20), np.array([-1.0, 0.0, 1.0]), np.array([-1.0, 1.0])
    focus, depth, y, x = np.meshgrid(focuses, depths, axis, axis, indexing="ij")
    points = np.stack([x, y, depth, focus], axis=-1).reshape(-1, 4)
    assert len(points) > RBF_DENSE

    def field(at):
        return (at[:, 0] ** 3 + at[:, 0] * at[:, 1] + 2 * at[:, 2] * at[:, 3] + at[:, 3])[:, None, None, None]

    random = np.random.default_rng(0)
    order = random.permutation(len(points))
    between = random.uniform(-1, 1, (50, 4))
    rbf = BASELINES["rbf_cubic"]
    np.testing.assert_allclose(rbf(points[order], field(points[order]), points), field(points), atol=1e-6)
    np.testing.assert_allclose(rbf(points[order], field(points[order]), between), field(between), atol=2e-3)
