"""`psf-search fit-unit` and `sample-units` of a model that knows several depths and focus distances."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deeplens_workers import measured
from deeplens_workers.pinholes import Picture
from deeplens_workers.psf_file import write
from deeplens_workers.unit_file import UnitFile
from results import load_model
from tests.search.test_unit_commands import PIXEL, WAVES, command, picture, refused
from tests.trainables.asbuilt.synthetic import FAR, SIDE, sets
from tests.trainables.asbuilt.test_learner import LEARNER, SMALL
from trainables.asbuilt.data import AsBuiltSplit, AsBuiltTensors, diopter_ranges, observed
from trainables.asbuilt.set_facts import SetFacts
from trainables.asbuilt.trial import AsBuiltTrial
from trainables.exports import export

NEAREST = {"both": {"depth_mm": -1000.0, "focus_mm": -2000.0}, "focus": {"focus_mm": -2000.0}}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Exported models of random weights, and a unit's kernels: with their distances, with their depth, and with neither."""
    directory = tmp_path_factory.mktemp("distances")
    for name, nearest in NEAREST.items():
        found = sets(directory / f"{name} sets", units=12, positions=8, nearest=nearest)
        train, validation = (AsBuiltSplit.of(found, one) for one in ("train", "validation"))
        data = AsBuiltTensors(
            train,
            validation,
            torch.device("cpu"),
            SetFacts(PIXEL, WAVES, centred=True, square=True),
            diopter_ranges(found),
        )
        torch.manual_seed(0)
        export(LEARNER.build(AsBuiltTrial(**SMALL), data), "cvae_asbuilt", directory / name)
    seen = observed(data.validation, 4)
    kernels, places = seen.kernels[0].numpy(), seen.points[0, :, :2].numpy()
    focus = {"focus_mm": np.full(4, FAR, np.float32)}
    at_depth = np.column_stack([places, np.full(4, FAR, np.float32)])
    for suffix in ("npz", "fits", "safetensors"):
        write(directory / f"unit.{suffix}", UnitFile(kernels, at_depth, PIXEL, WAVES, "test", focus))
        write(directory / f"focus.{suffix}", UnitFile(kernels, places, PIXEL, WAVES, "test", focus))
    write(directory / "depth.npz", UnitFile(kernels, at_depth, PIXEL, WAVES, "test"))
    write(directory / "bare.npz", UnitFile(kernels, places, PIXEL, WAVES, "test"))
    four = np.column_stack([at_depth, focus["focus_mm"]])
    np.savez(directory / "four.npz", kernels=kernels, points=four, pixel_um=PIXEL, wavelengths_um=WAVES)
    np.savez(directory / "near.npz", kernels=kernels, points=four / [1, 1, 20, 1], pixel_um=PIXEL, wavelengths_um=WAVES)
    return directory


@pytest.mark.parametrize("suffix", ["npz", "fits", "safetensors"])
def test_distances_are_read_and_written_in_every_format(made, tmp_path, capsys, suffix):
    given = measured.read(made / "four.npz")
    unit = load_model(made / "both").fit(given.kernels, given.at(("x", "y", "depth_mm", "focus_mm"), made))
    out = tmp_path / f"fitted.{suffix}"
    grid = ["--grid", 3, "--depth=-1000", "--focus=-2500"]
    code, text, err = command(capsys, "fit-unit", made / "both", made / f"unit.{suffix}", *grid, "--out", out)
    assert (code, err) == (0, "")
    assert "(-1, 0, -1000, -2500)" in text
    back = measured.read(out)
    points = back.at(("x", "y", "depth_mm", "focus_mm"), out)
    assert {tuple(one) for one in points[:, 2:].tolist()} == {(-1000, -2500)}
    np.testing.assert_allclose(back.kernels, unit.predict(points), atol=1e-6)


@pytest.mark.parametrize("file", ["focus.npz", "focus.fits", "focus.safetensors", "unit.npz", "four.npz"])
def test_a_model_takes_of_a_file_what_it_knows(made, capsys, file):
    asked = ["--at", "0,0.5,-3000"]
    code, text, err = command(capsys, "fit-unit", made / "focus", made / file, *asked)
    assert (code, err) == (0, "")
    assert "(0, 0.5, -3000)" in text


def test_units_are_drawn_at_distances(made, tmp_path, capsys):
    out = tmp_path / "units.npz"
    at = ["--at", "0,0,-1000,-2000", "--at=0,0,-10000,-10000"]
    code, text, _ = command(capsys, "sample-units", made / "both", "--count", 20, *at, "--out", out)
    assert code == 0
    assert "(0, 0, -10000, -10000)" in text
    units = load_model(made / "both").sample_units(20, torch.Generator().manual_seed(0))
    file = np.load(out)
    points = np.column_stack([file["points"], file["focus_mm"]])
    np.testing.assert_allclose(file["kernels"], units.predict(points), atol=1e-6)


def test_centres_of_pinholes_may_have_distances(made, tmp_path, capsys):
    given = measured.read(made / "unit.npz")
    picture(tmp_path, "pinholes.tif", given.kernels, given.points, np.uint16, channels=1)
    centres = tmp_path / "pinholes.tif.csv"
    head, *lines = centres.read_text().splitlines()
    asked = ["fit-unit", made / "both", tmp_path / "pinholes.tif", "--centres", centres, "--wavelengths", 0.49]
    refused(capsys, "pinholes.tif: does not give depth_mm", *asked, "--pixel", 5, "--at=0,0,-5000,-5000")
    centres.write_text("\n".join([f"{head},focus_mm,depth_mm", *(f"{line},-4000,-1500" for line in lines)]))
    read = Picture.read(tmp_path / "pinholes.tif", centres).cut(SIDE)
    assert {name: set(values) for name, values in read.distances.items()} == {"depth_mm": {-1500}, "focus_mm": {-4000}}
    points = read.at(("x", "y", "depth_mm"), centres)
    np.testing.assert_allclose(points, np.column_stack([given.points, np.full(4, -1500)]), atol=1e-6)


KNOWS = "this model knows depth_mm from -10000 to -1000"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["both", "unit.npz"], f"--depth: {KNOWS}, but got none"),
        (["both", "unit.npz", "--depth=-900"], f"--depth: {KNOWS}, but got -900"),
        (["both", "unit.npz", "--depth=nan"], f"--depth: {KNOWS}, but got nan"),
        (
            ["both", "unit.npz", "--depth=-1000"],
            "--focus: this model knows focus_mm from -10000 to -2000, but got none",
        ),
        (["focus", "unit.npz", "--depth=-1000"], "--depth: this model knows one depth_mm only"),
        (["both", "unit.npz", "--at=0,0,-5000,-5000", "--depth=-5000"], "--depth: cannot be given with --at"),
        (
            ["both", "unit.npz", "--at", "0,0"],
            "--at: expected x,y in [-1, 1], depth_mm in [-10000, -1000], focus_mm in",
        ),
        (["both", "unit.npz", "--at=0,0,-5000,-1000"], "such as 0.5,-0.9,-10000,-10000, but got '0,0,-5000,-1000'"),
        (["both", "bare.npz", "--at=0,0,-5000,-5000"], "bare.npz: does not give depth_mm"),
        (["both", "depth.npz", "--at=0,0,-5000,-5000"], "depth.npz: does not give focus_mm"),
        (["both", "near.npz", "--at=0,0,-5000,-5000"], "near.npz: points[0]: depth_mm must lie in [-10000, -1000]"),
    ],
)
def test_distances_that_are_missing_or_unknown_are_one_line(made, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(made)
    refused(capsys, says, "fit-unit", *arguments)
