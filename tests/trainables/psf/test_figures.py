"""Figures of kernels: the numbers behind them, and that picture and file have the same ones."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from matplotlib.quiver import Quiver

from deeplens_workers.lens_data import LensFacts
from spaces.loading import load
from tests.drawings import images, marks, numbers, pixels, values, written
from tests.trainables.psf.synthetic import tensors
from trainables.psf.cvae import CVAE, CvaeConfig
from trainables.psf.field_kernels import FieldKernels
from trainables.psf.figures.kernels import (
    FOCUS_RADIUS,
    FOCUS_STEPS,
    colours,
    defocus_of,
    psf_grid,
    psf_grid_figure,
    through_focus,
)
from trainables.psf.learner import CvaePsfLearner
from trainables.psf.metrics import predict, relative_l2

STEP = 0.03
"""Of a colour map's 256 colours, at the most, between neighbours."""
COLOURS = ("red", "green", "blue")
FACTS = LensFacts(sensor_mm=(36, 24), primary_um=0.55)


def kernels(count: int, channels: int) -> np.ndarray:
    values = np.random.default_rng(0).random((count, channels, 9, 9))
    return values / values.sum(axis=(2, 3), keepdims=True)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Figures of an untrained model on a sensor of 36 x 24 mm with kernel pixels of 10 um, that model, and the held-out set."""

    @cache
    def make(depths: tuple[float, ...] = (-10000.0,)):
        data = tensors(tmp_path_factory.mktemp("set") / "set", depths=depths)
        torch.manual_seed(0)
        config = CvaeConfig(2, 9, data.diopter_ranges, latent_dim=3, hidden_dim=8, num_layers=1, fourier_bands=1)
        model, study = CVAE(config), load("cvae_psf")
        facts = {"lens_facts": FACTS, "pixel_pitch_um": 2.0, "trace_px": 45, "kernel_px": 9, "depths_mm": depths}
        study = study.model_copy(update={"data": study.data.model_copy(update=facts)})
        return CvaePsfLearner().figures(model, data.validation, study), model, data.validation

    return make


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
def test_the_pixels_of_a_row_of_kernels_are_those_of_its_file(tmp_path, channels):
    true, generated = kernels(4, channels), kernels(4, channels)[::-1]
    figure, table = written(
        lambda: psf_grid_figure(true, generated, "title", [*"abcd"], ["e\nf", "g", "h", "i"]), tmp_path
    )
    names = {
        kind: [f"{kind}_{colour}" for colour in COLOURS] if channels == 3 else [kind] for kind in ("true", "generated")
    }
    told = {kind: pixels(table, *columns).reshape(true.shape) for kind, columns in names.items()}
    assert np.allclose(told["true"], true, rtol=1e-5)
    assert np.allclose(told["generated"], generated, rtol=1e-5)
    grid = psf_grid(told["true"], told["generated"])
    by_axis = [np.asarray(axis.images[0].get_array()) for axis in figure.axes[:12]]
    assert np.allclose(by_axis[:4], grid.true, atol=1e-4)
    assert np.allclose(by_axis[4:8], grid.generated, atol=1e-4)
    assert np.allclose(by_axis[8:], pixels(table, "difference"), atol=1e-4)
    texts = [text.get_text() for axis in figure.axes for text in (axis.title, axis.xaxis.label)]
    assert {"a", "d"} <= set(texts)
    assert f"{grid.error[0]:.3f}\ne\nf" in texts


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


def test_a_model_of_several_depths_is_shown_through_focus(drawn, tmp_path):
    assert "through_focus" not in drawn()[0]
    figures, _, test = drawn((-10000.0, -2000.0))
    figure, table = written(figures["through_focus"], tmp_path)
    shown = table.drop_duplicates(["x", "y"])
    assert len(shown) == FOCUS_STEPS
    assert shown["defocus_per_m"].tolist() == pytest.approx((-1000 / shown["depth_mm"]).tolist(), rel=1e-4)
    assert numbers(shown["x"]) <= numbers(test.points[:, 0].numpy())
    difference = [np.asarray(axis.images[0].get_array()) for axis in figure.axes[2 * FOCUS_STEPS : 3 * FOCUS_STEPS]]
    assert np.allclose(difference, pixels(table, "difference"), atol=1e-4)


def test_kernels_over_the_field_are_those_nearest_to_their_cells(drawn, tmp_path):
    figures, _model, test = drawn()
    figure, table = written(figures["field"], tmp_path)
    true, generated = (pixels(table, f"{kind}_0", f"{kind}_1") for kind in ("true", "generated"))
    grid = psf_grid(true, generated)
    shown = [np.stack([np.asarray(one.get_array()) for one in axis.images]) for axis in figure.axes[:3]]
    for tiles, expected in zip(shown, (grid.true, grid.generated, pixels(table, "difference")), strict=True):
        assert np.allclose(tiles, expected, atol=STEP)
    for _, row in table.drop_duplicates(["cell_x", "cell_y"]).iterrows():
        away = np.hypot(*(test.points[:, :2].numpy() - [row.cell_x, row.cell_y]).T)
        place = away.argmin()
        assert [row.x_mm, row.y_mm] == pytest.approx(
            (test.points[place, :2] * torch.tensor([18, 12])).tolist(), rel=1e-4
        )
    corner = figure.axes[0].images[0].get_extent()
    assert corner[0] < -14 < corner[1]
    assert corner[2] < 9.6 < corner[3]


def test_whiskers_lie_along_the_long_axis(drawn, tmp_path):
    figure, table = written(drawn()[0]["whiskers"], tmp_path)
    for axis, name in zip(figure.axes, ("true", "generated", "difference"), strict=True):
        (whiskers,) = axis.collections
        assert isinstance(whiskers, Quiver)
        assert numbers(np.asarray(whiskers.U)) == numbers(table[f"{name}_w1"])
        assert numbers(np.asarray(whiskers.V)) == numbers(table[f"{name}_w2"])
        assert marks(axis, "x") == numbers(table["x_mm"])
        assert marks(axis, "y") == numbers(table["y_mm"])
        length, angle = (
            np.hypot(table[f"{name}_g1"], table[f"{name}_g2"]),
            np.arctan2(table[f"{name}_g2"], table[f"{name}_g1"]),
        )
        assert np.allclose(table[f"{name}_w1"], length * np.cos(angle / 2), atol=1e-5)
        assert np.allclose(table[f"{name}_w2"], length * np.sin(angle / 2), atol=1e-5)


def test_sizes_are_radii_on_the_sensor(drawn, tmp_path):
    figure, table = written(drawn()[0]["sizes"], tmp_path)
    columns = ("true_rms_um", "generated_rms_um", "difference_percent")
    for axis, name in zip(figure.axes[:3], columns, strict=True):
        assert values(axis) == numbers(table[name])
        assert marks(axis, "x") == numbers(table["x_mm"])
    # Blobs of that width along both axes, of two channels (tests/trainables/psf/synthetic.py); the window cuts large ones.
    x, y = table["x"], table["y"]
    small = x**2 + y**2 < 0.3
    expected = 10 * np.sqrt(2) * (1.05 + 0.5 * (x**2 + y**2))
    assert np.allclose(table["true_rms_um"][small], expected[small], rtol=0.03)


def test_the_error_map_has_each_held_out_error(drawn, tmp_path):
    figures, model, test = drawn()
    figure, table = written(figures["error_map"], tmp_path)
    field, radial = figure.axes[:2]
    assert values(field) == marks(radial, "y") == numbers(table["rel_l2"])
    assert marks(radial, "x") == numbers(table["radius_mm"])
    assert table["rel_l2"].tolist() == pytest.approx(
        relative_l2(predict(model, test.points), test.kernels).tolist(), rel=1e-4
    )
    assert np.allclose(table["radius_mm"], np.hypot(18 * table["x"], 12 * table["y"]), rtol=1e-4)


@pytest.mark.parametrize("name", ["encircled_energy", "mtf"])
def test_curves_are_those_of_their_file(drawn, tmp_path, name):
    figure, table = written(drawn()[0][name], tmp_path)
    places = list(table.groupby(["x", "y"], sort=False))
    assert len(places) == len(figure.axes) == 3
    curves = [column for column in table if column.startswith(("true", "generated"))]
    along = "radius_um" if name == "encircled_energy" else "frequency_lp_per_mm"
    assert len(curves) == (2 if name == "encircled_energy" else 4)
    for axis, (_, rows) in zip(figure.axes, places, strict=True):
        assert marks(axis, "x") == numbers(rows[along])
        assert marks(axis, "y") == numbers(rows[curves].to_numpy())
    if name == "mtf":
        assert table[along].max() == pytest.approx(50)  # Nyquist of pixels of 10 um
        assert (table.loc[table[along] == 0, curves] == 1).all(axis=None)
    else:
        assert table["true"].max() <= 1


@pytest.mark.parametrize(("name", "heading"), [("traversals", "direction"), ("interpolation", "way")])
def test_tiles_of_kernels_are_those_of_their_file(drawn, tmp_path, name, heading):
    figures, model, _ = drawn()
    figure, table = written(figures[name], tmp_path)
    rows = table[heading].nunique()
    tiles = pixels(table, "value_0", "value_1")
    tiles = tiles.reshape(rows, -1, *tiles.shape[1:])
    scale = tiles[:, tiles.shape[1] // 2][:, None] if name == "traversals" else tiles[:1]
    relative = tiles / scale.max(axis=(-2, -1), keepdims=True)
    expected = colours(relative.reshape(-1, *relative.shape[2:]))
    assert np.allclose(np.stack(images(figure)), expected, atol=STEP)
    if name == "interpolation":
        ends = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
        assert np.allclose(tiles[0][[0, -1]], model.predict(ends).detach(), rtol=1e-4, atol=1e-7)
        assert np.allclose(tiles[1:, [0, -1]], tiles[:1, [0, -1]], rtol=1e-4, atol=1e-7)


def test_maps_of_a_model_that_knows_distances_are_of_like_ones():
    random = np.random.default_rng(0)
    points = np.column_stack([random.uniform(-1, 1, (1000, 2)), -1000 / random.uniform(0.1, 0.5, 1000)])
    any_kernels = torch.zeros(1000, 1, 3, 3)
    like = FieldKernels(points, any_kernels, any_kernels, ("x", "y", "depth_mm"), (18, 12), 10).at_like_distances
    assert len(like.points) == 200  # a fifth
    assert np.abs(-1000 / like.points[:, 2] - 0.3).max() == pytest.approx(0.04, abs=0.01)
