import numpy as np
import pytest

from deeplens_workers import cache
from deeplens_workers.dataset import positions, render_dataset, sampling_warnings
from deeplens_workers.kernels import Kernels
from deeplens_workers.lens_file import find_lens
from deeplens_workers.psf_data import PsfData


def small(**changes) -> PsfData:
    fields = {
        "lens": "cooke_triplet_50mm",
        "pixel_pitch_um": 3.2,
        "trace_px": 64,
        "depths_mm": (-10000,),
        "wavelengths_um": (0.656, 0.587, 0.486),
        "grid": (3, 2),
        "rays": 64,
        "held_out_rays": 512,
        "validation_points": 2,
        "test_points": 3,
    }
    return PsfData(**(fields | changes))


def test_the_grid_is_row_major_with_depth_slowest():
    train = positions(small(depths_mm=(-10000, -2000)), seed=3)["train"]
    assert train.dtype == np.float32
    np.testing.assert_array_equal(train[:4], [[-1, -1, -1e4], [0, -1, -1e4], [1, -1, -1e4], [-1, 1, -1e4]])
    np.testing.assert_array_equal(train[6:, :2], train[:6, :2])
    np.testing.assert_array_equal(train[6:, 2], -2000)


def test_a_grid_over_focus_distances_has_the_slowest_axis_of_them():
    train = positions(small(depths_mm=(-10000, -2000), focus_mm=(-5000, -1000)), seed=3)["train"]
    assert train.shape == (24, 4)
    np.testing.assert_array_equal(train[:12, :3], positions(small(depths_mm=(-10000, -2000)), seed=3)["train"])
    np.testing.assert_array_equal(train[:, 3], np.repeat([-5000, -1000], 12))


def test_held_out_distances_are_even_in_vergence_between_the_extremes():
    held_out = positions(small(depths_mm=(-500, -10000, -2000), focus_mm=(-1000,), test_points=2000), seed=3)["test"]
    assert len(held_out) == 6000
    vergence = 1000 / -held_out[:, 2].astype(np.float64)
    assert 0.1 <= vergence.min() < 0.11
    assert 1.99 < vergence.max() <= 2.0
    assert vergence.mean() == pytest.approx(1.05, abs=0.02)
    assert (held_out[:, 3] == -1000).all()
    focused = positions(small(focus_mm=(-1000, -500), test_points=320), seed=3)["test"][:, 3]
    np.testing.assert_array_equal(focused, np.repeat(focused[::32], 32))  # setting a focus takes time
    assert len(np.unique(focused)) == 20


def test_sets_have_their_sizes_are_disjoint_and_only_held_out_ones_follow_the_seed():
    data = small(depths_mm=(-10000, -2000), validation_points=50, test_points=60)
    first, second = positions(data, 0), positions(data, 1)
    assert {name: len(points) for name, points in first.items()} == data.kernels()
    rows = np.concatenate(list(first.values()))
    assert len(np.unique(rows, axis=0)) == len(rows)
    np.testing.assert_array_equal(first["train"], second["train"])
    for name in ("validation", "test"):
        assert not np.isin(first[name][:, :2], second[name][:, :2]).any()
        assert np.abs(first[name][:, :2]).max() <= 1
        np.testing.assert_array_equal(first[name], positions(data, 0)[name])
    np.testing.assert_array_equal(
        positions(small(validation_points=9), 0)["test"], positions(small(validation_points=2), 0)["test"]
    )


def test_a_second_run_traces_nothing_and_a_damaged_set_is_rendered_again(tmp_path):
    data, seen = small(), []
    lens = find_lens(data.lens)
    first = render_dataset(data, lens, 0, tmp_path, actors=0, progress=lambda *told: seen.append(told))
    assert first.rays_traced > 0
    assert seen[-1] == (11, 11, 3 * (6 * 64 + 5 * 512))
    assert first.warnings == []
    assert len(cache.read(first.sets["test"]).kernels) == 3

    second = render_dataset(data, lens, 0, tmp_path, actors=0)
    assert (second.rays_traced, second.sets["train"], second.warnings) == (0, first.sets["train"], [])

    kernels = first.sets["validation"] / "kernels.npy"
    good = kernels.read_bytes()
    kernels.write_bytes(good[:-4] + b"abcd")
    third = render_dataset(data, lens, 0, tmp_path, actors=0)
    assert 0 < third.rays_traced < first.rays_traced
    [warning] = third.warnings
    assert "made again" in warning
    assert "checksum" in warning
    assert kernels.read_bytes() == good

    other_seed = render_dataset(data, lens, 1, tmp_path, actors=0)
    assert other_seed.sets["train"] == first.sets["train"]
    assert third.rays_traced < other_seed.rays_traced < first.rays_traced


@pytest.mark.parametrize(
    ("radius_px", "lost", "expected"),
    [
        (6.0, 0.0, []),
        (4.0, 0.0, ["smaller than about one model pixel"]),
        (6.0, 0.02, ["lose more than 1%"]),
        (1.0, 0.5, ["smaller", "50.0%"]),
    ],
)
def test_unsuitable_sampling_is_reported(radius_px, lost, expected):
    kernels = Kernels(
        kernels=np.zeros((4, 3, 15, 15), np.float32),
        chief_ray_offset_px=np.zeros((4, 2), np.float32),
        lateral_color_px=np.zeros((4, 3, 2), np.float32),
        rms_radius_px=np.full((4, 3), radius_px, np.float32),
        lost=np.full((4, 3), lost, np.float32),
        relative_illumination=np.ones((4, 3), np.float32),
        rays=np.full((4, 3), 64, np.int32),
    )
    warnings = sampling_warnings(kernels, small())
    assert len(warnings) == len(expected)
    for warning, words in zip(warnings, expected, strict=True):
        assert words in warning
