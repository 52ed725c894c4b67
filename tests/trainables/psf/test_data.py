"""Data sets on disk -> tensors and neighbour pairs."""

import numpy as np
import pytest
import torch

from tests.trainables.psf.synthetic import blobs, grid, tensors, write_set
from trainables.psf.data import Basis, PsfSplit, PsfTensors, grid_index, neighbour_pairs


def test_neighbours_of_a_grid_are_right_down_and_both_diagonals():
    pairs = {tuple(pair) for pair in neighbour_pairs(grid(3)).tolist()}
    #  0 1 2
    #  3 4 5
    #  6 7 8
    right = {(0, 1), (1, 2), (3, 4), (4, 5), (6, 7), (7, 8)}
    down = {(0, 3), (3, 6), (1, 4), (4, 7), (2, 5), (5, 8)}
    diagonal = {(0, 4), (1, 5), (3, 7), (4, 8), (1, 3), (2, 4), (4, 6), (5, 7)}
    assert pairs == right | down | diagonal


def test_neighbours_are_found_in_any_order_of_points_and_at_the_next_depth():
    points = grid(4, depths=(-10000.0, -2000.0, -1000.0))
    order = np.random.default_rng(0).permutation(len(points))
    shuffled = points[order]
    expected = {frozenset(map(tuple, points[pair].tolist())) for pair in neighbour_pairs(points)}
    pairs = neighbour_pairs(shuffled)
    assert {frozenset(map(tuple, shuffled[pair].tolist())) for pair in pairs} == expected
    assert len(pairs) == 3 * (2 * 4 * 3 + 2 * 3 * 3) + 2 * 16


def test_points_that_are_no_grid_have_no_index():
    with pytest.raises(ValueError, match="must form a full grid, but got 8 points"):
        grid_index(grid(3)[:-1])


def test_random_points_are_loaded_with_the_pairs_of_the_grid(tmp_path):
    points = np.column_stack([np.random.default_rng(0).uniform(-1, 1, (20, 2)), np.full(20, -1e4)]).astype(np.float32)
    train, validation = (write_set(tmp_path / name, points) for name in ("train", "validation"))
    data = PsfTensors.load(train, validation, grid=write_set(tmp_path / "grid", grid(3)))
    assert torch.equal(data.pairs, torch.from_numpy(grid(3)[neighbour_pairs(grid(3)), :2]))
    assert len(data.train) == 20


def test_scores_follow_kernels_that_change_and_components_stay():
    kernels = torch.from_numpy(blobs(grid(6), kernel_px=8))
    basis = Basis(kernels, mirrored=False)
    basis.update(slice(0, 4))  # before any trial has asked
    scores, components = basis.scores.clone(), basis.components
    kernels[8:12] = kernels[20:24].clone()
    basis.update(slice(8, 12))
    assert basis.components is components
    torch.testing.assert_close(basis.scores[8:12], scores[20:24])
    others = torch.ones(36, dtype=torch.bool).index_fill(0, torch.arange(8, 12), False)
    assert torch.equal(basis.scores[others], scores[others])


def test_one_depth_gives_two_conditions_and_several_give_three(tmp_path):
    flat = tensors(tmp_path / "flat")
    assert flat.diopter_ranges == {}
    assert flat.train.points.shape == (36, 2)
    assert flat.validation.points.shape == (40, 2)
    deep = tensors(tmp_path / "deep", depths=(-10000.0, -500.0))
    assert deep.diopter_ranges == {"depth_mm": pytest.approx((0.1, 2.0))}
    assert deep.train.points.shape == (72, 3)


def test_a_focus_distance_that_varies_is_a_condition_and_a_depth_that_does_not_is_none(tmp_path):
    flat = grid(3)
    points = np.concatenate([np.column_stack([flat, np.full(9, focus)]) for focus in (-1e4, -1e3)]).astype(np.float32)
    train, validation = (write_set(tmp_path / name, points) for name in ("train", "validation"))
    data = PsfTensors.load(train, validation)
    assert data.diopter_ranges == {"focus_mm": pytest.approx((0.1, 1.0))}
    assert torch.equal(data.train.points, torch.from_numpy(points[:, [0, 1, 3]]))
    across = (data.pairs[:, 0] - data.pairs[:, 1]).ne(0).sum(dim=1)
    assert across.max() == 2  # the diagonals
    assert len(data.pairs) == 2 * (6 + 6 + 8) + 9


def test_a_split_is_what_is_on_disk(tmp_path):
    points = grid(3)
    split = PsfSplit.load(write_set(tmp_path / "test", points), ("x", "y"))
    assert torch.equal(split.points, torch.from_numpy(points[:, :2]))
    assert torch.equal(split.kernels, torch.from_numpy(blobs(points)))
    assert len(split) == 9
