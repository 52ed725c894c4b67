"""What a model's kernels are of: distortion as polynomials, and all else in JSON."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deeplens_workers import cache as kernel_cache
from deeplens_workers.dataset import render_sets, requests
from deeplens_workers.kernel_optics import KernelOptics, fit_distortion, optics_facts
from deeplens_workers.lens_file import find_lens
from deeplens_workers.preparation import fill_in
from deeplens_workers.psf_data import PsfData

HALF_UM = np.array([12000.0, 8000.0])


def barrel(ideal: np.ndarray, strength: float) -> np.ndarray:
    """Third-order distortion about the axis of a sensor of 24 x 16 mm."""
    r2 = np.sum((ideal * HALF_UM / HALF_UM[0]) ** 2, axis=-1, keepdims=True)
    return np.asarray(ideal * (1 - strength * r2))


def grid(n: int) -> np.ndarray:
    axis = np.linspace(-1, 1, n)
    return np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)


def optics(*strengths: float, depths: tuple[float, ...] = (-1000.0,)) -> KernelOptics:
    found = [
        fit_distortion(grid(13), barrel(grid(13), one), HALF_UM, depth)
        for one, depth in zip(strengths, depths, strict=True)
    ]
    return KernelOptics(
        lens="thin",
        lens_sha256="0" * 64,
        kernel_px=15,
        pixel_um=5.0,
        channels=(((0.6, 1.0), (0.5, 3.0)),),
        centre="chief ray",
        sensor_mm=(24.0, 16.0),
        depths_mm=depths,
        focus_mm=(),
        primary_um=0.587,
        distortion=tuple(found),
    )


def test_a_place_on_the_sensor_sees_the_ideal_point_whose_light_comes_there():
    off_grid = 0.97 * grid(8)
    seen = optics(0.03).ideal_points(barrel(off_grid, 0.03))
    assert np.abs((seen - off_grid) * HALF_UM).max() < 0.05  # um, of up to 500
    assert optics(0.03).ideal_points(np.array([0.0, 0.0])) == pytest.approx([0, 0], abs=1e-9)


def test_between_depths_distortion_is_linear_in_vergence_and_stays_beyond_them():
    both = optics(0.0, 0.04, depths=(-2000.0, -1000.0))
    corner = np.array([1.0, 1.0])
    far, middle, near, nearer = (both.ideal_points(corner, one) for one in (-2000.0, -1000 / 0.75, -1000.0, -300.0))
    np.testing.assert_allclose(middle, (far + near) / 2, atol=1e-9)
    np.testing.assert_allclose(nearer, near)
    np.testing.assert_allclose(both.ideal_points(corner), far)


def test_kernels_that_carry_distortion_need_no_map_and_an_unknown_one_is_refused():
    places = grid(3)
    assert optics(0.03).model_copy(update={"distortion": ()}).ideal_points(places) is places
    with pytest.raises(ValueError, match="not known"):
        optics(0.03).model_copy(update={"distortion": None}).ideal_points(places)


def test_a_channel_of_several_wavelengths_has_their_mean():
    assert optics(0.0).wavelengths_um == pytest.approx([0.525])


@pytest.mark.parametrize("recenter", [True, False])
def test_of_rendered_kernels_through_json(tmp_path: Path, recenter: bool):
    lens = find_lens("double_gauss_100mm")
    asked = PsfData(
        lens=lens.name,
        grid=(5, 5),
        depths_mm=(-5000.0, -2000.0),
        rays=64,
        held_out_rays=512,
        validation_points=1,
        test_points=2,
        recenter=recenter,
    )
    data = fill_in(asked, lens)
    wanted = {"train": requests(data, lens, seed=0)["train"]}
    made = render_sets(data, wanted, tmp_path, actors=0)
    facts = json.loads(json.dumps(optics_facts(data, lens, made.sets["train"])))
    found = KernelOptics(**facts["optics"])
    assert (found.lens_sha256, found.sensor_mm, found.depths_mm) == (
        lens.sha256,
        lens.conditions.sensor_mm,
        data.depths_mm,
    )
    assert found.pixel_um == pytest.approx(data.pixel_pitch_um * data.trace_px / data.kernel_px)
    if not recenter:
        assert found.distortion == ()
        return
    assert found.distortion is not None
    assert [one.depth_mm for one in found.distortion] == [-5000.0, -2000.0]
    kernels = kernel_cache.read(made.sets["train"])
    points = wanted["train"].points
    half_um = 1e3 * np.array(found.sensor_mm) / 2
    at_far = points[:, 2] == -5000.0
    ideal, offset_um = points[at_far, :2], kernels.chief_ray_offset_px[at_far] * data.pixel_pitch_um
    back = found.ideal_points(ideal + offset_um / half_um, depth_mm=-5000.0)
    assert np.abs(offset_um).max() > 200
    assert np.abs((back - ideal) * half_um).max() < 5


def test_a_few_positions_at_each_distance_show_no_distortion(tmp_path: Path):
    lens = find_lens("cooke_triplet_50mm")
    data = fill_in(PsfData(lens=lens.name, rays=64, held_out_rays=512, grid=(4, 4)), lens)
    request = requests(data, lens, seed=0)["train"]
    points = request.points.copy()
    points[:, 2] = -np.linspace(1000, 9000, len(points))
    made = render_sets(data, {"train": replace(request, points=points)}, tmp_path, actors=0)
    assert optics_facts(data, lens, made.sets["train"])["optics"]["distortion"] is None
