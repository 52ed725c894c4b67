import json

import numpy as np
import pytest

from deeplens_workers import cache
from deeplens_workers.dataset import aspect, positions, render_sets, requests, sampling_warnings
from deeplens_workers.kernels import Kernels
from deeplens_workers.lens_file import LENSES, find_lens
from deeplens_workers.preparation import fill_in
from deeplens_workers.psf_data import PsfData
from spaces.errors import SpaceError, check
from tests.deeplens_workers.conftest import rel_l2


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
    first = render_sets(data, requests(data, lens, 0), tmp_path, actors=0, progress=lambda *told: seen.append(told))
    assert first.rays_traced > 0
    assert seen[-1] == (11, 11, 3 * (6 * 64 + 5 * 512))
    assert first.warnings == []
    assert len(cache.read(first.sets["test"]).kernels) == 3

    second = render_sets(data, requests(data, lens, 0), tmp_path, actors=0)
    assert (second.rays_traced, second.sets["train"], second.warnings) == (0, first.sets["train"], [])

    kernels = first.sets["validation"] / "kernels.npy"
    good = kernels.read_bytes()
    kernels.write_bytes(good[:-4] + b"abcd")
    third = render_sets(data, requests(data, lens, 0), tmp_path, actors=0)
    assert 0 < third.rays_traced < first.rays_traced
    [warning] = third.warnings
    assert "made again" in warning
    assert "checksum" in warning
    assert kernels.read_bytes() == good

    other_seed = render_sets(data, requests(data, lens, 1), tmp_path, actors=0)
    assert other_seed.sets["train"] == first.sets["train"]
    assert third.rays_traced < other_seed.rays_traced < first.rays_traced


def on_a_wide_sensor(**changes) -> PsfData:
    """Random points to train on, as a run writes them down."""
    data = small(train_points=70, sensor_mm=(30, 20), depths_mm=(-10000, -2000), **changes)
    return fill_in(data, find_lens(data.lens, None, data.sensor_mm))


def test_random_points_to_train_on_leave_the_grid_to_interpolation():
    data = on_a_wide_sensor(focus_mm=(-10000, -3000))
    sets = positions(data, 0)
    assert {name: len(points) for name, points in sets.items()} == data.kernels()
    np.testing.assert_array_equal(
        sets["grid"], positions(small(depths_mm=data.depths_mm, focus_mm=data.focus_mm), 0)["train"]
    )
    train = sets["train"]
    assert np.abs(train[:, :2]).max() <= 1
    assert len(np.unique(train[:, :3], axis=0)) == 70
    assert [train[:, 2].min(), train[:, 2].max()] == pytest.approx([-10000, -2000], rel=0.1)
    for name in ("train", "validation", "test"):
        assert not np.isin(train[:, :2], positions(data, 1)[name][:, :2]).any()  # it follows the seed


def test_the_meridional_frame_has_its_points_on_the_axis_as_far_from_the_centre():
    data, on_sensor = on_a_wide_sensor(frame="meridional"), on_a_wide_sensor()
    assert aspect(data) == pytest.approx(2 / 3)
    sets, others = positions(data, 0), positions(on_sensor, 0)
    for name in ("validation", "test", "grid"):
        np.testing.assert_array_equal(sets[name], others[name])
    train, before = sets["train"], others["train"]
    assert (train[:, 1] == 0).all()
    np.testing.assert_allclose(train[:, 0], np.hypot(before[:, 0], before[:, 1] * 2 / 3), rtol=1e-6)
    np.testing.assert_array_equal(train[:, 2], before[:, 2])
    assert train[:, 0].max() > 1  # in a corner


@pytest.mark.parametrize("focus_mm", [(), (-5000,), (-10000, -3000)])
def test_interpolation_that_turns_kernels_has_a_grid_of_radii_and_distances(focus_mm):
    data = on_a_wide_sensor(frame="meridional", focus_mm=focus_mm)
    points = positions(data, 0)["axis"]
    levels = [np.unique(column) for column in points.T]
    assert len(points) == np.prod([len(one) for one in levels])
    assert 0.5 * data.train_points < len(points) <= 1.2 * data.train_points
    radii, y, depths, *focus = levels
    np.testing.assert_array_equal(y, [0])
    np.testing.assert_allclose(np.diff(radii), np.diff(radii)[0], rtol=1e-4)
    assert (radii[0], radii[-1]) == (0, pytest.approx(np.hypot(1, 2 / 3)))
    np.testing.assert_allclose(np.diff(1 / depths), np.diff(1 / depths)[0], rtol=1e-3)
    assert (depths[0], depths[-1]) == (pytest.approx(-10000), pytest.approx(-2000))
    assert len(radii) > len(depths) > 1
    for given, found in zip([focus_mm] if focus_mm else [], focus, strict=True):
        assert (found[0], found[-1]) == (pytest.approx(min(given)), pytest.approx(max(given)))


def test_kernels_of_the_meridional_frame_have_half_the_pitch_and_those_that_judge_do_not():
    data = on_a_wide_sensor(frame="meridional", kernel_px=16)
    wanted = requests(data, find_lens(data.lens, None, data.sensor_mm), 0)
    assert set(wanted) == {"train", "axis", "grid", "validation", "test"}
    for name in ("train", "axis"):
        tracing = wanted[name].tracing
        assert wanted[name].pixel_pitch_um == data.pixel_pitch_um / 2
        assert (tracing.trace_px, tracing.kernel_px, tracing.pooling) == (128, 128, "smooth")
        assert tracing.rays == data.rays
    for name in ("grid", "validation", "test"):
        tracing = wanted[name].tracing
        assert wanted[name].pixel_pitch_um == data.pixel_pitch_um
        assert (tracing.trace_px, tracing.kernel_px, tracing.pooling) == (64, 16, "area")
    rays = sum(len(one.points) * one.tracing.rays * len(one.tracing.channels) for one in wanted.values())
    assert data.rays_total() == pytest.approx(rays, rel=0.05)  # of `axis` there are nearly as many
    assert len({cache.key(one) for one in wanted.values()}) == len(wanted)


def test_beside_a_stream_of_the_meridional_frame_the_grid_stays_on_the_sensor():
    lens = find_lens("cooke_triplet_50mm")
    data = fill_in(small(frame="meridional", stream={"kernels": 10}), lens)
    wanted = requests(data, lens, 0)
    assert set(wanted) == {"train", "axis", "validation", "test"}
    assert (wanted["train"].tracing.pooling, wanted["axis"].tracing.pooling) == ("area", "smooth")
    assert len(wanted["axis"].points) == 10
    assert data.rays_total() == sum(len(one.points) * one.tracing.rays * 3 for one in wanted.values())


def test_beside_a_stream_no_random_points_are_rendered():
    with_points = on_a_wide_sensor(frame="meridional", stream={"kernels": 10})
    points = positions(with_points, 0)
    assert {name: len(points[name]) for name in with_points.kernels()} == with_points.kernels()
    np.testing.assert_array_equal(
        points["train"], positions(with_points.model_copy(update={"train_points": 0}), 0)["train"]
    )
    assert len(points["axis"]) == pytest.approx(70, rel=0.5)


def test_a_set_of_the_meridional_frame_is_rendered_and_found_again(tmp_path):
    data = on_a_wide_sensor(frame="meridional", rays=2**14, held_out_rays=2**17).model_copy(update={"train_points": 12})
    lens = find_lens(data.lens, None, data.sensor_mm)
    first = render_sets(data, requests(data, lens, 0), tmp_path, actors=0)
    kernels = cache.read(first.sets["train"]).kernels
    assert kernels.shape == (12, 3, 128, 128)  # two samples for each of 64 traced pixels
    np.testing.assert_allclose(kernels.sum(axis=(2, 3)), 1, atol=1e-4)
    # A centred lens is the same above and below the +x axis, but for the rays' noise.
    assert rel_l2(kernels[:, :, ::-1], kernels).mean() < 0.3 < rel_l2(kernels[..., ::-1], kernels).mean()
    assert cache.read(first.sets["grid"]).kernels.shape == (12, 3, 15, 15)
    again = render_sets(data, requests(data, lens, 0), tmp_path, actors=0)
    assert (again.rays_traced, again.sets) == (0, first.sets)


def test_kernels_of_a_lens_that_is_not_centred_are_not_turned(tmp_path):
    prescription = json.loads((LENSES / "cooke_triplet_50mm.json").read_text())
    for surface in prescription["surfaces"][2:4]:
        surface["pos_xy"] = [0.2, 0.1]
    (tmp_path / "misaligned.json").write_text(json.dumps(prescription))
    lens = find_lens(str(tmp_path / "misaligned.json"))
    asked = small(lens=str(tmp_path / "misaligned.json"), train_points=4)
    with pytest.raises(SpaceError, match=r"data\.frame.*misaligned"):
        fill_in(asked.model_copy(update={"frame": "meridional"}), lens)
    on_sensor = fill_in(asked, lens)
    turned = on_sensor.model_copy(update={"frame": "meridional"})
    with pytest.raises(ValueError, match="not centred"):
        render_sets(turned, requests(turned, lens, 0), tmp_path / "cache", actors=0)
    assert render_sets(on_sensor, requests(on_sensor, lens, 0), tmp_path / "cache", actors=0).rays_traced > 0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "`train_points >= 1`"),
        ({"train_points": 5, "psf_model": "huygens"}, "psf_model geometric"),
        ({"train_points": 5, "recenter": False}, "`recenter: true`"),
        ({"train_points": -1}, "train_points"),
    ],
)
def test_what_the_meridional_frame_does_not_go_with_is_named(changes, expected):
    with pytest.raises(SpaceError) as told:
        check(PsfData, small().model_dump() | {"frame": "meridional"} | changes, where="data")
    assert expected in str(told.value)


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
