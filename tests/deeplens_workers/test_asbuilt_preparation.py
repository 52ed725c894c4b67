"""Data sets of units: what is rendered, where, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from deeplens_workers.asbuilt_data import OBSERVED, OBSERVED_LEVELS, AsBuiltData
from deeplens_workers.asbuilt_preparation import AsBuiltPreparation, manufacture, observed_points, tracings, unit_focus
from deeplens_workers.kernels import Units
from deeplens_workers.lens_file import LENSES, find_lens
from deeplens_workers.preparation import lens_of
from deeplens_workers.render import load
from deeplens_workers.unit_fit import fit_unit
from spaces import store
from spaces.errors import SpaceError
from spaces.errors import check as checked

ONLY_DECENTRES = {"grade": "precision"} | dict.fromkeys(
    (
        "tilt_arcmin",
        "space_um",
        "thickness_um",
        "radius_percent",
        "index",
        "abbe_percent",
        "sensor_focus_um",
        "sensor_tilt_arcmin",
    ),
    0,
)


def section(**changes) -> AsBuiltData:
    fields = {
        "lens": "cooke_triplet_50mm",
        "depths_mm": (-10000.0,),
        "wavelengths_um": (0.587,),
        "pixel_pitch_um": 12.8,
        "trace_px": 16,
        "kernel_px": 16,
        "rays": 256,
        "held_out_rays": 512,
        "units": 3,
        "positions": 5,
        "validation_units": 2,
        "test_units": 2,
        "held_out_positions": 2,
        "tolerances": ONLY_DECENTRES,
    }
    return checked(AsBuiltData, fields | changes, where="data")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    work, data = AsBuiltPreparation(), section()
    source = work.find(data)
    data = work.resolved(data, source)
    cache = tmp_path_factory.mktemp("cache")
    return data, work.prepare(data, source, 0, cache, 0), (work, source, cache)


def arrays(directory, *names):
    return [np.load(f"{directory}/{name}.npy") for name in names]


def test_sets_have_units_at_their_positions_and_are_found_again(prepared):
    data, first, (work, source, cache) = prepared
    assert first.work["rays traced"] > 0
    assert work.prepare(data, source, 0, cache, 0).work["rays traced"] == 0
    tolerances = 6  # of three elements, along x and y
    shapes = {
        "train": (3, 5),
        "validation": (2, 27),
        "test": (2, 27),
        "nominal": (1, 29),
        "effects": (2 * tolerances, 29),
    }
    for name, (units, positions) in shapes.items():
        kernels, points, values = arrays(first.sets[name], "kernels", "points", "units")
        assert kernels.shape == (units * positions, 1, 16, 16)
        assert points.shape == (units * positions, 3)
        assert values.shape == (units, tolerances)
        np.testing.assert_allclose(kernels.sum((2, 3)), 1, rtol=1e-5)
        store.verify(Path(first.sets[name]))


def test_the_work_that_is_announced_is_the_work_that_is_done(prepared):
    data, _, (work, source, _) = prepared
    wanted = work.requests(data, source, 0)
    made = manufacture(data, source)
    assert data.kernels(len(made.deviations)) == {name: len(one.points) for name, one in wanted.items()}
    assert work.rays(data, source) == sum(len(one.points) * one.tracing.rays for one in wanted.values())


def test_effects_of_tolerances_count_among_the_positions_that_a_data_set_may_have():
    work, data = AsBuiltPreparation(), section(held_out_positions=80_000)
    with pytest.raises(SpaceError, match=r"at most 1,000,000 positions, but these are .* with the effects of 6"):
        work.resolved(data, work.find(data))


def test_held_out_units_share_positions_that_no_other_set_has(prepared):
    data, found, _ = prepared
    points = {name: np.load(f"{found.sets[name]}/points.npy") for name in ("validation", "test", "nominal")}
    for name in ("validation", "test"):
        one, other = points[name].reshape(2, 27, 3)
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(one[:25], observed_points(data))
    np.testing.assert_array_equal(points["nominal"], np.concatenate([points["validation"][:27], points["test"][25:27]]))
    assert not np.isin(points["validation"][25:27, 0], points["test"][25:27, 0]).any()
    values = [np.load(f"{found.sets[name]}/units.npy") for name in ("train", "validation", "test")]
    assert len(np.unique(np.concatenate(values), axis=0)) == 7


def test_fewer_observed_positions_are_those_their_number_names(prepared):
    points = observed_points(prepared[0])
    assert {len(rows) for rows in OBSERVED.values()} == set(OBSERVED)
    np.testing.assert_array_equal(points[list(OBSERVED[1]), :2], [[0, 0]])
    np.testing.assert_allclose(np.abs(points[list(OBSERVED[4]), :2]), 0.45)
    assert set(points[list(OBSERVED[9])][:, 0]) == {np.float32(level) for level in OBSERVED_LEVELS[::2]}


def test_a_unit_s_tolerances_are_found_through_the_tracer(prepared):
    data, found, _ = prepared
    kernels, points, values = arrays(found.sets["test"], "kernels", "points", "units")
    nominal = np.load(f"{found.sets['nominal']}/kernels.npy")
    renderer = load(find_lens(data.lens), data.pixel_pitch_um)
    seen = list(OBSERVED[4])
    tracing = tracings(data)[1]
    fitted = fit_unit(renderer, data.tolerances, unit_focus(data), points[seen], kernels[seen], tracing, evaluations=6)
    away = slice(25, 27)
    made = renderer.render_units(points[away], tracing, Units(data.tolerances, fitted[None], unit_focus(data))).kernels
    true, design = kernels[away], nominal[[27, 28]]

    def error(guess):
        return (np.linalg.norm(guess - true, axis=(2, 3)) / np.linalg.norm(true, axis=(2, 3))).mean()

    assert error(made) < 0.3 * error(design)
    # Some of what they do is a shift, which kernels that are centred on their own light do not show.
    assert np.linalg.norm(fitted - values[0]) < 0.5 * np.linalg.norm(values[0])


def test_each_point_is_traced_at_its_own_distances_through_a_unit_that_is_focused_anew():
    work, data = AsBuiltPreparation(), section(depths_mm=(-1e4, -1e3), focus_mm=(-5e3, -2e3), tolerances={})
    source = work.find(data)
    data = work.resolved(data, source)
    assert "-5000 to -2000 mm, anew" in work.describe(data, source)["focus"]
    wanted = work.requests(data, lens_of(source), 0)
    train, test, nominal = (wanted[name].points for name in ("train", "test", "nominal"))
    for column, (far, near) in ((2, data.depths_mm), (3, data.focus_mm)):
        assert far <= train[:, column].min() < train[:, column].max() <= near
        assert set(test[:25, column]) == {far}
    assert {tuple(one) for one in test[:27].tolist()} <= {tuple(one) for one in nominal.tolist()}
    renderer, units, tracing = load(lens_of(source), data.pixel_pitch_um), wanted["train"].units, tracings(data)[0]
    assert units is not None
    together = renderer.render_units(train, tracing, units).kernels
    focused = Units(units.tolerances, units.values[[1]], float(train[7, 3]))  # points 5 to 9 are of unit 1
    np.testing.assert_allclose(
        renderer.render_units(train[[7], :3], tracing, focused).kernels[0], together[7], atol=1e-6
    )


def test_the_plan_says_how_units_are_focused():
    work, plans = AsBuiltPreparation(), []
    for compensator in ("axis", "field", "none"):
        data = section(tolerances=ONLY_DECENTRES | {"compensator": compensator})
        source = work.find(data)
        plans.append(work.describe(work.resolved(data, source), source)["focus"])
    assert ["-10000 mm" in plan for plan in plans] == [True, True, False]
    assert len(set(plans)) == 3


def test_the_plan_says_that_units_of_a_design_that_is_not_centred_are_not_mirrored(tmp_path):
    work, tree = AsBuiltPreparation(), json.loads((LENSES / "cooke_triplet_50mm.json").read_text())
    plans = []
    for aside in (0.0, 0.2):
        tree["surfaces"][2]["pos_xy"] = tree["surfaces"][3]["pos_xy"] = [aside, 0.0]
        path = tmp_path / "lens.json"
        path.write_text(json.dumps(tree))
        data = section(lens=str(path))
        source = work.find(data)
        plans.append(work.describe(work.resolved(data, source), source)["units"])
    assert ["mirrored" in plan for plan in plans] == [False, True]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"positions": 4}, "positions"),
        ({"test_units": 1}, "test_units"),
        ({"units": 10**6}, "at most 1,000,000 positions"),
        ({"depths_mm": (-1e4, -1e4)}, "distances must be distinct"),
        ({"focus_mm": (-1e4,), "tolerances": {"compensator": "none"}}, "never focused"),
        ({"tolerances": {"grade": "sloppy"}}, "tolerances.grade"),
    ],
)
def test_a_section_that_makes_no_sense_is_refused(changes, words):
    with pytest.raises(SpaceError, match=words):
        section(**changes)


@pytest.mark.parametrize(
    ("tolerances", "words"),
    [
        ({"elements": {9: {"tilt_arcmin": 1}}}, "elements 1 to 3, but got 9"),
        (ONLY_DECENTRES | {"decentre_um": 0}, "every unit is the design"),
    ],
)  # fmt: skip
def test_tolerances_that_the_lens_cannot_have_are_refused_before_any_work(tolerances, words):
    work, data = AsBuiltPreparation(), section(tolerances=tolerances)
    with pytest.raises(SpaceError, match=words):
        work.resolved(data, work.find(data))
