"""Interpolation of the train grid on fields where the right answer is known."""

import numpy as np
import pytest
import torch
from scipy.interpolate import RegularGridInterpolator
from scipy.sparse.linalg import spsolve

from tests.trainables.psf.synthetic import grid, tensors, write_set
from trainables.psf.data import PsfSplit, select
from trainables.psf.interpolation import BASELINES, RBF_DENSE, predict_baseline, predict_baselines
from trainables.psf.metrics import kernel_metrics


def bilinear_field(points: np.ndarray) -> np.ndarray:
    """A field a + b x + c y + d x y (+ e / depth) of two-pixel kernels."""
    x, y = points[:, 0], points[:, 1]
    value = 2 + 0.3 * x - 0.2 * y + 0.1 * x * y + 0.5 * 1000 / np.abs(points[:, 2])
    return np.stack([value, 4 - value], axis=1).reshape(-1, 1, 1, 2).astype(np.float32)


@pytest.mark.parametrize("depths", [(-10000.0,), (-10000.0, -2000.0, -500.0)])
@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
def test_bilinear_and_bicubic_are_exact_on_a_bilinear_field(tmp_path, name, depths):
    random = np.random.default_rng(0)
    train, vergences = grid(5, depths), 1000 / np.abs(depths)
    depth = -1000 / random.uniform(vergences.min(), vergences.max(), 50)
    held_out = np.column_stack([random.uniform(-1, 1, (50, 2)), depth]).astype(np.float32)
    conditions = ("x", "y") if len(depths) == 1 else ("x", "y", "depth_mm")
    split = PsfSplit.load(write_set(tmp_path / "train", train, bilinear_field(train)), conditions)
    if len(depths) == 1:
        held_out[:, 2] = depths[0]
    predicted = predict_baseline(name, split, torch.from_numpy(select(held_out, conditions))).kernels
    np.testing.assert_allclose(predicted, bilinear_field(held_out), atol=1e-5)


def full_grid(*axes: np.ndarray) -> np.ndarray:
    """Points [N, d] of the grid with these axes, x first, in no order."""
    points = np.stack([axis.ravel() for axis in np.meshgrid(*axes)], axis=1)
    return np.random.default_rng(0).permutation(points)


def test_bicubic_is_exact_on_a_bicubic_field_and_linear_between_fewer_than_four_distances():
    def field(at):
        x, y, depth, focus = at.T
        value = (x**3 - x) * (y**3 + y**2) * (1 + depth) + x**3 * focus**3
        return np.stack([value, 1 - value], axis=1).reshape(-1, 1, 1, 2)

    random = np.random.default_rng(1)
    points = full_grid(np.linspace(-1, 1, 5), np.linspace(-1, 1, 6), np.array([-1, 0.2, 1]), np.linspace(-1, 1, 4))
    between = random.uniform(-1, 1, (50, 4))
    np.testing.assert_allclose(
        BASELINES["bicubic"](points, field(points)).evaluate(between), field(between), atol=1e-12
    )


def test_bicubic_is_linear_along_a_side_of_fewer_than_four_points():
    points = full_grid(np.array([-1.0, 1.0]), np.linspace(-1, 1, 4))
    between = np.random.default_rng(1).uniform(-1, 1, (50, 2))

    def field(at):
        return (at[:, 0] * at[:, 1] ** 3)[:, None, None, None]

    np.testing.assert_allclose(
        BASELINES["bicubic"](points, field(points)).evaluate(between), field(between), atol=1e-12
    )


def test_bicubic_is_the_cubic_interpolation_of_scipy():
    axis, random = np.linspace(-1, 1, 7), np.random.default_rng(0)
    values = random.normal(size=(7, 7))
    points = np.stack([column.ravel() for column in np.meshgrid(axis, axis, indexing="ij")], axis=1)
    between = random.uniform(-1, 1, (50, 2))
    predicted = BASELINES["bicubic"](points, values.reshape(-1, 1, 1, 1)).evaluate(between)
    reference = RegularGridInterpolator((axis, axis), values, method="cubic", solver=spsolve)(between)
    np.testing.assert_allclose(predicted.ravel(), reference, atol=1e-12)


@pytest.mark.parametrize("depths", [(-10000.0,), (-10000.0, -500.0)])
@pytest.mark.parametrize("name", BASELINES)
def test_every_interpolation_reproduces_the_grid_in_any_order(tmp_path, name, depths):
    data = tensors(tmp_path, depths=depths)
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    shuffled = PsfSplit(data.train.kernels[order], data.train.points[order])
    predicted = predict_baseline(name, shuffled, data.train.points).kernels
    torch.testing.assert_close(predicted, data.train.kernels, atol=1e-5, rtol=0)


def test_on_a_smooth_field_a_higher_order_is_better(tmp_path):
    data = tensors(tmp_path, side=10)
    found = predict_baselines(data.train, data.validation.points)
    errors = {name: kernel_metrics(one.kernels, data.validation.kernels)["prior_rel_l2"] for name, one in found.items()}
    assert list(errors) == ["nearest", "bilinear", "bicubic", "pca_rbf", "rbf_cubic"]
    assert errors["bicubic"] < 0.5 * errors["bilinear"] < 0.25 * errors["nearest"]
    assert errors["rbf_cubic"] < 0.5 * errors["bilinear"]


def test_with_all_components_the_rbf_of_scores_is_that_of_kernels(tmp_path):
    data = tensors(tmp_path, side=6)  # 36 kernels: 35 components
    of_scores, of_kernels = (
        predict_baseline(name, data.train, data.validation.points) for name in ("pca_rbf", "rbf_cubic")
    )
    torch.testing.assert_close(of_scores.kernels, of_kernels.kernels, atol=1e-6, rtol=0)


def test_few_components_give_the_nearest_kernels_of_that_rank(tmp_path, monkeypatch):
    """At the grid's points the error is what the other components hold (Eckart & Young 1936)."""
    monkeypatch.setattr("trainables.psf.interpolation.PCA_COMPONENTS", 3)
    train = tensors(tmp_path, side=6).train
    predicted = predict_baseline("pca_rbf", train, train.points).kernels
    flat = train.kernels.flatten(1).double()
    scales = torch.linalg.svdvals(flat - flat.mean(dim=0))
    error = (predicted - train.kernels).double().square().sum()
    assert float(error) == pytest.approx(float(scales[3:].square().sum()), rel=1e-3)


def test_sizes_are_those_of_what_must_be_kept_and_times_are_per_kernel(tmp_path, monkeypatch):
    monkeypatch.setattr("trainables.psf.interpolation.PCA_COMPONENTS", 10)
    data = tensors(tmp_path, side=6)
    found = predict_baselines(data.train, data.validation.points)
    kernels = 4 * 36 * 2 * 9 * 9  # float32, 6 x 6 points, two channels of 9 x 9
    assert {name: one.bytes for name, one in found.items()} == {
        "nearest": kernels,
        "bilinear": kernels,
        "bicubic": kernels,
        "pca_rbf": 4 * (10 * 162 + 36 * 10 + 162),  # components, scores, mean
        "rbf_cubic": kernels,
    }
    for one in found.values():
        assert one.kernels.shape == data.validation.kernels.shape
        assert one.kernels.dtype == torch.float32
        assert one.seconds_per_psf > 0


@pytest.mark.parametrize("name", ["rbf_cubic", "pca_rbf"])
def test_on_a_large_grid_over_depths_and_focus_the_rbf_is_exact_at_its_points_and_linear_between_planes(name):
    axis, depths, focuses = np.linspace(-1, 1, 20), np.array([-1.0, 0.0, 1.0]), np.array([-1.0, 1.0])
    focus, depth, y, x = np.meshgrid(focuses, depths, axis, axis, indexing="ij")
    points = np.stack([x, y, depth, focus], axis=-1).reshape(-1, 4)
    assert len(points) > RBF_DENSE

    def field(at):
        return (at[:, 0] ** 3 + at[:, 0] * at[:, 1] + 2 * at[:, 2] * at[:, 3] + at[:, 3])[:, None, None, None]

    random = np.random.default_rng(0)
    order = random.permutation(len(points))
    between = random.uniform(-1, 1, (50, 4))
    rbf = BASELINES[name](points[order], field(points[order]))
    np.testing.assert_allclose(rbf.evaluate(points), field(points), atol=1e-6)
    np.testing.assert_allclose(rbf.evaluate(between), field(between), atol=2e-3)
