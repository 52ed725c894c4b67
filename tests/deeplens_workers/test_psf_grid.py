"""FITS files for photutils against closed forms: Gaussian spots whose light in a pixel of any size is known."""

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray
from photutils.psf import GriddedPSFModel
from scipy.special import ndtr

from deeplens_workers.kernel_optics import KernelOptics
from deeplens_workers.psf_grid import PsfGrid, effective
from tests.deeplens_workers.test_kernel_optics import barrel, optics

Array = NDArray[np.float64]
SIDE, PIXEL_UM = 15, 5.0
"""Of `optics`, whose sensor has 4800 x 3200 such pixels."""


def light(width: Array, right: Array, up: Array, at: Array, pixel: float = 1.0) -> Array:
    """Light [M, n, n] of Gaussian spots in pixels with middles at `at` [n] along both axes, row 0 the lowest; all in kernel pixels."""

    def along(offset: Array) -> Array:
        ends = [ndtr((at + side * pixel / 2 - offset[:, None]) / width[:, None]) for side in (1, -1)]
        return np.asarray(ends[0] - ends[1])

    return along(up)[:, :, None] * along(right)[:, None]


def spots(ideal: Array) -> tuple[Array, Array, Array]:
    """Widths and offsets to the right and up, in kernel pixels, at ideal image points [M, 2]."""
    x, y = ideal.T
    return 1 + 0.2 * x**2 + 0.1 * y, 0.5 * x, 0.5 * y


def kernels(ideal: Array) -> NDArray[np.float32]:
    """[M, 1, K, K], row 0 at the top."""
    found = light(*spots(ideal), np.arange(SIDE, dtype=np.float64) - SIDE // 2)[:, None, ::-1]
    return (found / found.sum(axis=(-2, -1), keepdims=True)).astype(np.float32)


def undistorted() -> KernelOptics:
    return optics(0.0).model_copy(update={"distortion": ()})


def read(grid: PsfGrid, path: Path) -> GriddedPSFModel:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as of cards that are no FITS
        grid.write(path, 0)
    return GriddedPSFModel.read(path)


def test_at_its_nodes_photutils_has_the_kernels_upright_and_of_unit_sum(tmp_path):
    model = read(PsfGrid.of(kernels, undistorted(), (12, 9)), tmp_path / "grid.fits")
    assert model.data.shape == (108, SIDE, SIDE)  # cards of three digits too
    assert model.grid_xypos.min(axis=0) == pytest.approx([-0.5, -0.5])
    assert model.grid_xypos.max(axis=0) == pytest.approx([4799.5, 3199.5])
    for x, y in ((-1.0, 1.0), (1.0, -0.25)):
        at = (np.array([x, y]) + 1) / 2 * [4800, 3200] - 0.5
        model.x_0, model.y_0 = at
        columns, rows = np.meshgrid(*(one + np.arange(SIDE) - SIDE // 2 for one in at))
        found = model(columns, rows)
        np.testing.assert_allclose(found, kernels(np.array([[x, y]]))[0, 0, ::-1], atol=1e-6)
        assert found.sum() == pytest.approx(1, abs=1e-6)
    assert found[SIDE // 2 - 1].sum() > found[SIDE // 2 + 1].sum()  # the spot at y < 0 lies low, and rows go up


@pytest.mark.parametrize("factor", [2, 3])
def test_a_detector_pixel_gathers_what_falls_on_the_whole_of_it(tmp_path, factor):
    same = np.array([[0.3, -0.4]])

    def everywhere(ideal: Array) -> NDArray[np.float32]:
        return kernels(same).repeat(len(ideal), axis=0)

    model = read(PsfGrid.of(everywhere, undistorted(), (3, 3), factor * PIXEL_UM), tmp_path / "grid.fits")
    assert tuple(model.oversampling) == (factor, factor)
    for step in range(factor):
        # Where detector pixels are on samples, no spline has a part: of an even number of them they are half a sample off the star.
        star = 100 + (step + 0.5 * (factor % 2 == 0)) / factor
        reach = np.arange(-9, 10)
        model.x_0, model.y_0 = star, star
        found = model(*np.meshgrid(100 + reach, 100 + reach))
        true = light(*spots(same), (100 + reach - star) * factor, factor)[0]
        np.testing.assert_allclose(found, true, atol=1e-5)
        assert found.sum() == pytest.approx(1, abs=1e-5)


def test_sums_of_pixels_keep_the_light():
    one = np.random.default_rng(0).random((2, 5, 6)).astype(np.float32)
    found = effective(one, 3)
    assert found.shape == (2, 7, 8)
    np.testing.assert_allclose(found[:, 3, 4], one[:, 1:4, 2:5].sum(axis=(1, 2)), rtol=1e-6)
    np.testing.assert_allclose(found.sum(axis=(1, 2)), 9 * one.sum(axis=(1, 2)), rtol=1e-6)


def test_the_header_says_how_far_photutils_is_from_the_kernels_between_nodes(tmp_path):
    columns, rows = 6, 5
    grid = PsfGrid.of(kernels, undistorted(), (columns, rows))
    model = read(grid, tmp_path / "grid.fits")
    errors = []
    for x in (np.arange(columns - 1) + 0.5) * 2 / (columns - 1) - 1:
        for y in (np.arange(rows - 1) + 0.5) * 2 / (rows - 1) - 1:
            model.x_0, model.y_0 = at = (np.array([x, y]) + 1) / 2 * [4800, 3200] - 0.5
            found = model(*np.meshgrid(*(one + np.arange(SIDE) - SIDE // 2 for one in at)))
            true = kernels(np.array([[x, y]]))[0, 0, ::-1]
            errors.append(np.linalg.norm(found - true) / np.linalg.norm(true))
    header = fits.getheader(tmp_path / "grid.fits")
    assert header["ERRMEAN"] == pytest.approx(np.mean(errors), rel=1e-3)
    assert header["ERRMAX"] == pytest.approx(np.max(errors), rel=1e-3)
    assert header["ERRMEAN"] / PsfGrid.of(kernels, undistorted(), (11, 9)).error[0, 0] > 1.5


def test_a_node_has_the_light_that_comes_to_its_place_on_the_sensor():
    """Barrel distortion brings light to the corner from outside of the field."""
    grid = PsfGrid.of(kernels, optics(0.03), (5, 5))
    places = (grid.pixels + 0.5) / [4800, 3200] * 2 - 1
    inner = np.abs(places).max(axis=1) < 0.9
    ideal = optics(0.03).ideal_points(places[inner])
    assert np.abs(barrel(ideal, 0.03) - places[inner]).max() < 1e-4
    np.testing.assert_allclose(grid.epsfs[inner], kernels(ideal), atol=1e-7)
    assert grid.beyond == pytest.approx(0.05, abs=0.02)
    np.testing.assert_allclose(grid.epsfs[0], kernels(np.array([[-1.0, -1.0]]))[0], atol=1e-7)


@pytest.mark.parametrize(
    ("changes", "pixel_um", "why"),
    [
        ({"pixel_filter": "triangle"}, None, "gather by a triangle.*data.pixel_filter box"),
        ({}, 7.5, "1 to 15 of this model's kernel pixels of 5 um.*such as 5 or 10 um; but got 7.5 um"),
        ({}, 2.5, "but got 2.5 um"),
        ({}, 100.0, "but got 100 um"),
        ({}, math.inf, "but got inf um"),
        ({"kernel_px": 3}, None, "photutils takes 4 samples along a side, but kernels have 3"),
    ],
)
def test_kernels_that_are_no_effective_psfs_of_a_detector_are_refused(changes, pixel_um, why):
    with pytest.raises(ValueError, match=why):
        PsfGrid.of(kernels, undistorted().model_copy(update=changes), (3, 3), pixel_um)
