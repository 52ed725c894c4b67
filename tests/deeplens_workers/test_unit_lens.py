"""Units as lens files: DeepLens' own reader, and ours, make the same rays of them."""

import numpy as np
import pytest
import torch

from deeplens_workers.asbuilt_data import AsBuiltData
from deeplens_workers.asbuilt_preparation import AsBuiltPreparation, manufacture, tracings, unit_focus
from deeplens_workers.geolens import GeoLens, Ray
from deeplens_workers.kernels import Units
from deeplens_workers.lens_file import find_lens
from deeplens_workers.raytrace import RayTracer
from deeplens_workers.render import load
from deeplens_workers.tolerances import draw
from deeplens_workers.unit_lens import parse_unit, turned, unit_lens
from spaces.errors import SpaceError

SEED, NUMBER = 3, 17
OBJECTS = np.array([[0.0, 0.0, -10000.0], [1500.0, -800.0, -10000.0], [-2500.0, 2000.0, -10000.0]])


def section(lens="cooke_triplet_50mm", waves=(0.656, 0.486), **tolerances):
    file = find_lens(lens)
    data = AsBuiltData(
        lens=lens, pixel_pitch_um=6.4, trace_px=32, depths_mm=(-10000,), wavelengths_um=waves, tolerances=tolerances
    )
    return AsBuiltPreparation().resolved(data, file), file


def traced(data, file):
    """The unit, its tracer, points aimed at on a plane, and where rays cross the surfaces [M, P, S, 3] and the sensor [M, S, 2]."""
    made = manufacture(data, file)
    unit = made.unit(draw(data.tolerances, NUMBER + 1, SEED, "train", len(made.deviations))[NUMBER])
    tracer = RayTracer(file, 6.4)
    tracer.build(unit, unit_focus(data))
    plane, radius = tracer.pupil(OBJECTS)
    disc = np.array([[0.0, 0.0], [0.5, 0.0], [0.0, -0.7], [-0.6, 0.6]])
    return unit, tracer, np.append(disc * radius[0], np.full((4, 1), plane[0]), axis=1)


def rays(start, through, wave, lens):
    """From objects [M, 3] through points [S, 3], as DeepLens has them."""
    o = torch.from_numpy(np.broadcast_to(start[:, None], (len(start), len(through), 3)).copy())
    return Ray(o, torch.from_numpy(through - start[:, None]), wave, device="cpu")


@pytest.mark.parametrize("lens", ["cooke_triplet_50mm", "double_gauss_100mm"])
@pytest.mark.parametrize("wave", [0.656, 0.486])
def test_deeplens_reads_the_units_rays(tmp_path, lens, wave):
    data, file = section(lens)
    unit, tracer, aimed = traced(data, file)
    path = tmp_path / "unit.json"
    path.write_text(unit_lens(data, file, SEED, "train", NUMBER).text)
    places = tracer.paths(OBJECTS, np.tile(aimed[:, :2], (3, 1, 1)), np.full(3, wave), -1.0)[:, 1:-1]
    landed, _ = tracer.hits(OBJECTS, np.tile(aimed[:, :2], (3, 1, 1)), np.full(3, wave))

    read = GeoLens(str(path), dtype=torch.float64)
    start, through = (turned(one, unit, tracer.length_mm) for one in (OBJECTS, aimed))
    ray, record = read.trace2sensor(rays(start, through, wave, read), record=True)
    crossed = torch.stack(record[1:-1], dim=1).numpy()
    reached = np.isfinite(crossed).all(axis=(1, 3))
    assert reached.sum() >= 6
    crossed, expected = (np.moveaxis(one, 1, 2)[reached] for one in (crossed, turned(places, unit, tracer.length_mm)))
    np.testing.assert_allclose(crossed, expected, atol=1e-7)
    np.testing.assert_allclose(-ray.o.numpy()[reached][:, :2], landed[reached], atol=5e-5)  # of 20 mm, in float32


NOTHING = dict.fromkeys(
    ("decentre_um", "tilt_arcmin", "space_um", "thickness_um", "radius_percent", "index", "abbe_percent"), 0.0
) | {"sensor_focus_um": 0.0, "sensor_tilt_arcmin": 0.0}


def test_our_reader_sees_tilts_that_float32_does_not(tmp_path):
    data, file = section(**NOTHING | {"tilt_arcmin": 0.3})
    made = unit_lens(data, file, SEED, "train", NUMBER)
    assert any("float64" in note for note in made.notes)
    path = tmp_path / "unit.json"
    path.write_text(made.text)
    count = len(manufacture(data, file).deviations)
    values = draw(data.tolerances, 1, SEED, "train", count, first=NUMBER)
    tracing, points = tracings(data)[0], np.array([[0.1, -0.2, -10000.0], [0.6, 0.3, -10000.0]], np.float32)
    renderer = load(file, 6.4)
    unit, design = (
        renderer.render_units(points, tracing, Units(data.tolerances, one, -10000.0)).kernels
        for one in (values, 0 * values)
    )
    again = load(find_lens(str(path)), 6.4).render(points, tracing).kernels
    assert relative(again, unit) < 2e-3
    assert relative(design, unit) > 0.01


def relative(kernels, true):
    return float(np.linalg.norm(kernels - true) / np.linalg.norm(true))


def test_what_the_format_has_no_word_for_is_told_and_nothing_else():
    quiet = NOTHING | {"decentre_um": 20.0}
    for changed, words in (
        ({}, ()),
        ({"sensor_tilt_arcmin": 3.0}, ("turned back",)),
        ({"index": 3e-4}, ("exact at 0.656, 0.486 um, and there alone",)),
    ):
        data, file = section(**quiet | changed)
        notes = unit_lens(data, file, SEED, "test", 0).notes
        assert len(notes) == len(words)
        assert all(word in note for word, note in zip(words, notes, strict=True))
    data, file = section(waves=(0.656, 0.587, 0.486), **quiet | {"abbe_percent": 0.3})
    (note,) = unit_lens(data, file, SEED, "test", 0).notes
    assert "exact at one or two" in note


@pytest.mark.parametrize("name", ["train", "train/", "train/-1", "train/1.5", "tests/1", "/1"])
def test_a_name_of_no_unit_is_refused(name):
    with pytest.raises(SpaceError, match="SET one of train, validation, test, stream"):
        parse_unit(name)
    assert parse_unit("stream/12") == ("stream", 12)
