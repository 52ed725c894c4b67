"""Figures of units, drawn from a network that was trained for a few steps: picture and file have the same numbers."""

from __future__ import annotations

import numpy as np
import pytest

from deeplens_workers.asbuilt_data import OBSERVED
from deeplens_workers.lens_data import LensFacts
from spaces.loading import load
from tests.drawings import images, marks, numbers, pixels, values, written
from tests.trainables.asbuilt.test_learner import LEARNER, trained
from trainables.asbuilt.evaluation import GIVEN, model_errors, name_of
from trainables.asbuilt.figures import error_figure
from trainables.psf.figures.kernels import colours, psf_grid

STEP = 0.03
"""Of a colour map's 256 colours, at the most, between neighbours."""
MAPS = {"field", "whiskers", "sizes", "error_map", "encircled_energy", "mtf", "traversals", "interpolation"}


@pytest.fixture(scope="module")
def drawn(data, square):
    """Figures of a network, that network, and the test set."""
    network, _ = trained(data, 20)
    test = LEARNER.open_test(square)
    study = load("cvae_asbuilt")
    facts = {
        "lens_facts": LensFacts(sensor_mm=(20, 20), primary_um=0.55),
        "pixel_pitch_um": 5.0,
        "trace_px": 16,
        "kernel_px": 16,
    }
    study = study.model_copy(update={"data": study.data.model_copy(update=facts)})
    return LEARNER.figures(network, test, study), network, test


def test_kernels_of_a_unit_and_of_samples_are_those_of_their_files(drawn, tmp_path):
    figures, _, _test = drawn
    assert set(figures) == {"unit", "samples", "population"} | MAPS
    for name, rows in (
        ("unit", ["this_unit", f"fitted_to_{GIVEN}_PSFs", "nominal_lens"]),
        ("samples", ["traced_units", "drawn_units"]),
    ):
        figure, table = written(figures[name], tmp_path / name)
        channels = [column.removeprefix(rows[0]) for column in table if column.startswith(rows[0])]
        kernels = [pixels(table, *(row + channel for channel in channels)) for row in rows]
        kernels = [one if one.ndim == 4 else one[:, None] for one in kernels]
        peaks = [(kernels[0] if name == "unit" else one).max(axis=(2, 3), keepdims=True) for one in kernels]
        expected = np.concatenate([colours(one / peak) for one, peak in zip(kernels, peaks, strict=True)])
        assert np.allclose(np.stack(images(figure)), expected, atol=STEP)


def test_the_distributions_of_a_population_are_those_of_its_file(drawn, tmp_path):
    figure, table = written(drawn[0]["population"], tmp_path)
    panels = list(table.groupby(["x", "y", "quantity"], sort=False))
    assert len(panels) == len(figure.axes)
    for axis, (_, rows) in zip(figure.axes, panels, strict=True):
        assert marks(axis, "x") == numbers(rows["value"])
        assert marks(axis, "y") == numbers(rows["share"])


def test_figures_over_the_field_are_of_places_that_were_not_observed(drawn, tmp_path):
    figures, network, test = drawn
    figure, table = written(figures["error_map"], tmp_path / "errors")
    assert marks(figure.axes[1], "y") == values(figure.axes[0]) == numbers(table["rel_l2"])
    assert len(table) == test.units.points.shape[1] - len(OBSERVED[GIVEN])
    away = table.iloc[25 - len(OBSERVED[GIVEN]) :]["rel_l2"].mean()
    assert away == pytest.approx(float(model_errors(network, test.units)[name_of(GIVEN)].mean()), rel=1e-3)
    figure, table = written(figures["field"], tmp_path / "field")
    names = [[f"{kind}_{colour}" for colour in ("red", "green", "blue")] for kind in ("true", "generated")]
    if names[0][0] not in table:
        names = [[column for column in table if column.startswith(kind)] for kind in ("true", "generated")]
    kernels = [pixels(table, *columns) for columns in names]
    grid = psf_grid(*(one if one.ndim == 4 else one[:, None] for one in kernels))
    shown = [np.stack([np.asarray(one.get_array()) for one in axis.images]) for axis in figure.axes[:3]]
    assert np.allclose(shown[0], grid.true, atol=STEP)
    assert np.allclose(shown[1], grid.generated, atol=STEP)
    assert np.allclose(shown[2], pixels(table, "difference"), atol=1e-4)


@pytest.mark.parametrize("name", sorted(MAPS - {"error_map", "field"}))
def test_every_other_figure_is_written(drawn, tmp_path, name):
    """Their numbers are tested with the systems of one lens, whose figures they are (tests/trainables/psf/test_figures.py)."""
    _, table = written(drawn[0][name], tmp_path)
    assert len(table)
    assert table.select_dtypes("number").notna().all(axis=None)


def test_errors_over_the_number_of_observed_psfs_have_their_intervals(tmp_path):
    random = np.random.default_rng(0)
    every = {name_of(count): random.uniform(0.1, 0.5, (2, 6)) for count in OBSERVED}
    errors = {"best": every, "fitted": {name_of(GIVEN): np.array([[0.05, 0.07]])}}
    figure, table = written(lambda: error_figure(errors, {"best": "the winner", "fitted": "fitted"}), tmp_path)
    assert marks(figure.axes[0], "x") == numbers(table["observed_psfs"])
    assert marks(figure.axes[0], "y") == numbers(table[["rel_l2", "low", "high"]].to_numpy())
    (fitted,) = table[table["method"] == "fitted"].to_dict("records")
    assert (fitted["rel_l2"], fitted["high"]) == pytest.approx((0.06, 0.06 + 1.96 * 0.02 / 2), rel=1e-4)
