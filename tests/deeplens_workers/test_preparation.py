"""PSF data sets as a search prepares them."""

import json
from pathlib import Path

import pytest

from deeplens_workers.dataset import render_sets, requests
from deeplens_workers.lens_file import LENSES, find_lens
from deeplens_workers.preparation import RAYS, PsfPreparation
from spaces.errors import SpaceError
from tests.deeplens_workers.test_dataset import small


def test_a_missing_lens_is_reported_before_anything_is_made():
    with pytest.raises(SpaceError, match="did you mean 'double_gauss_100mm'"):
        PsfPreparation().find(small(lens="double_gaus"))


def test_sets_come_to_lie_where_they_were_said_to(tmp_path):
    preparation, data, told = PsfPreparation(), small(), []
    lens = preparation.find(data)
    places = preparation.places(data, lens, 0, tmp_path)
    assert not any(place.exists() for place in places.values())
    prepared = preparation.prepare(data, lens, 0, tmp_path, actors=0, progress=lambda *seen: told.append(seen))
    assert prepared.sets == {name: str(place) for name, place in places.items()}
    assert set(prepared.sets) == {"train", "validation", "test"}
    assert prepared.work[RAYS] > 0
    assert [(done, total) for done, total, _ in told][-1] == (11, 11)
    rendered = render_sets(data, requests(data, find_lens(data.lens), 0), tmp_path, actors=0)
    assert rendered.rays_traced == 0  # it found them all
    assert preparation.prepare(data, lens, 0, tmp_path, actors=0).work == {RAYS: 0}


def test_a_set_of_the_meridional_frame_comes_with_how_to_turn_it(tmp_path):
    preparation = PsfPreparation()
    data = small(frame="meridional", train_points=6, sensor_mm=(30, 20), trace_px=32, pixel_pitch_um=6.4)
    lens = preparation.find(data)
    data = preparation.resolved(data, lens)
    prepared = preparation.prepare(data, lens, 0, tmp_path, actors=0)
    places = preparation.places(data, lens, 0, tmp_path)
    assert set(places) == {"train", "validation", "test", "grid", "axis"}
    assert prepared.sets == {name: str(place) for name, place in places.items()} | {"turning": prepared.sets["turning"]}
    assert json.loads(prepared.sets["turning"]) == {
        "trace_px": 32,
        "aspect": pytest.approx(2 / 3),
        "pixel_filter": "box",
    }
    line = preparation.describe(data, lens)["data set"]
    assert all(f"{count} {name}" in line for name, count in {"train": 6, "validation": 2, "test": 3, "grid": 6}.items())
    assert "axis positions" in line


def test_a_run_records_a_shipped_lens_by_name_and_another_by_its_whole_path(tmp_path, monkeypatch):
    preparation = PsfPreparation()
    (tmp_path / "mine.json").write_text((LENSES / "cooke_triplet_50mm.json").read_text())
    monkeypatch.chdir(tmp_path)
    for given, recorded in (
        ("cooke_triplet_50mm", "cooke_triplet_50mm"),
        (str(LENSES / "cooke_triplet_50mm.json"), "cooke_triplet_50mm"),
        ("mine.json", str(Path("mine.json").resolve())),
    ):
        data = small(lens=given)
        resolved = preparation.resolved(data, preparation.find(data))
        assert resolved.model_copy(update={"lens_facts": None}) == small(lens=recorded)


def test_the_plan_says_what_will_be_rendered():
    preparation, data = PsfPreparation(), small(depths_mm=(-10000, -1000), stream={"kernels": 512, "reuse": 3})
    lens = preparation.find(data)
    lines = preparation.describe(preparation.resolved(data, lens), lens)
    assert "cooke_triplet_50mm.json (sha256 " in lines["lens"]
    assert "12 grid, 4 validation, 6 test positions x 3 channels" in lines["data set"]
    assert lines["stream"] == "512 fresh kernels, each drawn 3 times on average"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pixel_pitch_um": 3.2, "trace_px": 64}, "as given)"),
        ({"pixel_pitch_um": 3.2, "trace_px": 32}, "as given; 102.4 um, but the lens file has 204.8 um)"),
        (
            {"pixel_pitch_um": 0.1, "trace_px": 64, "sensor_mm": (20, 20)},
            "as given; 6.4 um, but the largest spot needs ",
        ),
    ],
)
def test_the_plan_says_that_a_window_is_small(changes, said):
    preparation, data = PsfPreparation(), small(**changes)
    lens = preparation.find(data)
    assert said in preparation.describe(preparation.resolved(data, lens), lens)["window"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"pixel_pitch_um": 1e9}, "`pixel_pitch_um` must lie between 0.01 and 1000 um"),
        ({"pixel_pitch_um": 900, "trace_px": 64}, "is 57.6 mm wide, but the sensor is 25.74 x 25.74 mm"),
        ({"sensor_mm": (1000, 1000)}, "no light of objects at -10000 mm reaches .* give a smaller data.sensor_mm"),
    ],
)
def test_what_no_kernel_comes_of_is_refused_before_anything_is_made(changes, says):
    def resolved() -> None:
        data, preparation = small(**changes), PsfPreparation()
        preparation.resolved(data, preparation.find(data))

    with pytest.raises(ValueError, match=says):
        resolved()


def test_a_grid_needs_no_supply():
    preparation, data = PsfPreparation(), small()
    with preparation.supply(data, preparation.find(data), 0, actors=1) as supply:
        assert (dict(supply.sets), supply.work(), supply.failure()) == ({}, {}, None)
