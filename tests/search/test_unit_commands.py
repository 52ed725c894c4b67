"""`psf-search fit-unit` and `sample-units`, as a user types them: files read and written, tables, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import safetensors.numpy
import torch
from astropy.io import fits

from deeplens_workers import measured
from deeplens_workers.pinholes import Centre, Picture
from deeplens_workers.psf_file import write
from deeplens_workers.unit_file import UnitFile
from results import load_model
from search.cli import main
from tests.trainables.asbuilt.synthetic import FAR, SIDE, sets
from tests.trainables.asbuilt.test_learner import LEARNER, SMALL
from trainables.asbuilt.data import AsBuiltSplit, AsBuiltTensors, observed
from trainables.asbuilt.set_facts import SetFacts
from trainables.asbuilt.trial import AsBuiltTrial
from trainables.exports import export

ROOT = Path(__file__).parents[2]
PIXEL, WAVES = 5.0, (0.656, 0.486)
SEEN = 4


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A directory with an exported model of random weights, and a unit's measured kernels as .npz, .fits and .safetensors."""
    directory = tmp_path_factory.mktemp("units")
    split = {name: AsBuiltSplit.load(path) for name, path in sets(directory / "sets", units=12, positions=8).items()}
    data = AsBuiltTensors(
        split["train"],
        split["validation"],
        torch.device("cpu"),
        SetFacts(PIXEL, WAVES, {"depth_mm": FAR}, centred=True, square=True),
    )
    torch.manual_seed(0)
    export(LEARNER.build(AsBuiltTrial(**SMALL), data), "cvae_asbuilt", directory / "model")
    seen = observed(split["test"], SEEN)
    kernels, points = seen.kernels[0].numpy(), seen.points[0].numpy()
    for suffix in ("npz", "fits", "safetensors"):
        write(directory / f"unit.{suffix}", UnitFile(kernels, points, PIXEL, WAVES, "test"))
    np.savez(directory / "bare.npz", kernels=kernels, points=points)
    np.savez(directory / "plain.npz", kernels=kernels, points=points, pixel_um=PIXEL, wavelengths_um=WAVES)
    np.savez(directory / "one.npz", kernels=kernels[:, 1:], points=points)
    near = np.column_stack([points, np.full(SEEN, 1.03 * FAR)])
    np.savez(directory / "near.npz", kernels=kernels, points=near, pixel_um=PIXEL, wavelengths_um=WAVES)
    levels = np.round(kernels / kernels.max() * 4500).clip(max=4095)
    counts: dict[str, Any] = {"pixel_um": PIXEL, "wavelengths_um": WAVES, "points": points}
    np.savez(directory / "white.npz", kernels=levels.astype(np.uint16), **counts)
    clipped = np.round(kernels / kernels.max() * 260).clip(max=255)
    np.savez(directory / "clipped.npz", kernels=clipped.astype(np.uint8), **counts)
    np.savez(directory / "pixel.npz", kernels=kernels, points=points, pixel_um=6.5, wavelengths_um=WAVES)
    np.savez(directory / "waves.npz", kernels=kernels, points=points, pixel_um=PIXEL, wavelengths_um=(0.6, 0.486))
    np.savez(directory / "lacks.npz", kernels=kernels)
    np.savez(directory / "none.npz", kernels=kernels[:0], points=points[:0])
    np.savez(directory / "words.npz", kernels=np.array(["dark"]), points=points)
    np.savez(
        directory / "twice.npz", kernels=kernels, points=points[[0, 1, 2, 1]], pixel_um=PIXEL, wavelengths_um=WAVES
    )
    for name, changes in WRONG.items():
        np.savez(directory / f"{name}.npz", **{"kernels": kernels, "points": points, **changes})
    whole = (directory / "unit.npz").read_bytes()
    (directory / "empty.npz").write_bytes(b"")
    (directory / "short.npz").write_bytes(whole[: len(whole) // 2])
    (directory / "torn.npz").write_bytes(whole[:100] + bytes(200) + whole[300:])
    fits.PrimaryHDU(kernels).writeto(directory / "alone.fits")
    safetensors.numpy.save_file({"kernels": kernels}, directory / "lacks.safetensors")
    np.savez(directory / "dark.npz", kernels=0 * kernels, points=points, pixel_um=PIXEL, wavelengths_um=WAVES)
    (directory / "damaged.npz").write_bytes(b"PK\x03\x04 no archive")
    (directory / "damaged.fits").write_bytes(b"no FITS")
    (directory / "damaged.safetensors").write_bytes(b"no tensors")
    (directory / "damaged.png").write_bytes(b"no picture")
    (directory / "linked.npz").symlink_to(directory / "unit.npz")
    picture(directory, "grey16.png", kernels, points, np.uint16, channels=1)
    return directory


WRONG: dict[str, dict[str, Any]] = {
    "pixels": {"pixel_um": [5.0, 5.0]},
    "negative": {"pixel_um": -5.0},
    "named": {"pixel_um": "five"},
    "wave": {"wavelengths_um": 0.486},
    "focus": {"focus_mm": -1e4},
}
"""By file name."""


def picture(directory, name, kernels, points, kind, channels, background=20):
    """A grid of pinholes as a picture, with its centres' file `NAME.csv`: what is read back is rounded to grey levels."""
    gap = SIDE + 4
    depth = 3 if channels > 1 else 1
    made = np.full((gap, gap * len(kernels), depth), background, np.float64)
    scale = (np.iinfo(kind).max - background) / kernels.max() * 0.99
    lines = ["column, row, x, y"]
    for index, (kernel, (x, y)) in enumerate(zip(kernels, points, strict=True)):
        left = index * gap + 2
        made[2 : 2 + SIDE, left : left + SIDE, : kernels.shape[1]] += scale * kernel[:depth].transpose(1, 2, 0)
        lines.append(f"{left + (SIDE - 1) / 2 + 0.3}, {2 + (SIDE - 1) / 2 - 0.3}, {x}, {y}")
    image = np.round(made).astype(kind)
    assert cv2.imwrite(str(directory / name), image[:, :, ::-1] if depth == 3 else image)
    (directory / f"{name}.csv").write_text("\n".join(lines) + "\n")


def command(capsys, *arguments):
    """Exit code, standard output and standard error."""
    try:
        main([str(one) for one in arguments])
        code = 0
    except SystemExit as left:
        code = int(left.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize("suffix", ["npz", "fits", "safetensors"])
def test_every_format_gives_the_same_unit_and_is_written_with_its_uncertainty(made, tmp_path, capsys, suffix):
    out = tmp_path / f"fitted.{suffix}"
    code, text, err = command(capsys, "fit-unit", made / "model", made / f"unit.{suffix}", "--grid", 3, "--out", out)
    assert (code, err) == (0, "")
    lines = text.splitlines()
    assert lines[-1] == str(out)
    assert "(-1, -1)" in text
    assert "at 0.486 um" in text
    given = measured.read(made / "unit.npz")
    unit = load_model(made / "model").fit(given.kernels, given.points)
    back = measured.read(out)
    assert (back.pixel_um, back.wavelengths_um) == (PIXEL, WAVES)
    np.testing.assert_allclose(back.kernels, unit.predict(back.points), atol=1e-6)
    if suffix == "npz":
        file = np.load(out)
        np.testing.assert_allclose(file["spread"], unit.spread(back.points), rtol=1e-5)
        radius = torch.stack(unit.interval(back.points, "rms_radius"), dim=-1) * PIXEL
        np.testing.assert_allclose(file["rms_radius_um"], radius, rtol=1e-5)
        assert file["mtf50_lp_mm"].shape == (9, 2, 3)


def test_rows_of_fits_go_up(made):
    with fits.open(made / "unit.fits") as file:
        assert file[0].header["KERNPIX"] == PIXEL
        kernels = file[0].data
    given = measured.read(made / "unit.npz")
    np.testing.assert_array_equal(kernels[:, :, ::-1], given.kernels)
    np.testing.assert_array_equal(measured.read(made / "unit.fits").points, given.points)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(("kind", "close"), [(np.uint8, 5e-3), (np.uint16, 5e-5)])
def test_a_picture_of_pinholes_gives_the_same_kernels(made, tmp_path, suffix, kind, close):
    """Red is the first channel; a background is subtracted; centres need not be whole pixels."""
    given = measured.read(made / "unit.npz")
    # Its border is dark, so that the background's median is the background.
    edge = np.zeros((SIDE, SIDE), np.float32)
    edge[2:-2, 2:-2] = 1
    kernels = given.kernels * edge
    picture(tmp_path, f"pinholes.{suffix}", kernels, given.points, kind, channels=2)
    read = Picture.read(tmp_path / f"pinholes.{suffix}", tmp_path / f"pinholes.{suffix}.csv").cut(SIDE)
    assert read.kernels.shape == (SEEN, 3, SIDE, SIDE)
    np.testing.assert_allclose(read.points, given.points, atol=1e-6)
    assert np.abs(read.kernels[:, 2]).max() == 0
    np.testing.assert_allclose(read.kernels[:, :2] / read.kernels.max(), kernels / kernels.max(), atol=close)


def test_a_grey_picture_is_fitted_with_the_colour_it_was_taken_in(made, capsys):
    name = made / "grey16.png"
    code, out, err = command(
        capsys, "fit-unit", made / "model", name, "--centres", f"{name}.csv", "--wavelengths", 0.49, "--at", "0.5,-0.5"
    )
    assert code == 0
    assert "not measured: at 0.656 um; filled in" in out
    # Whether it also suits a model of random weights is chance.
    assert err.startswith(f"{name}: does not give its pixels, which must be 5 um (--pixel)\n")
    assert "(0.5, -0.5)" in out


def test_what_a_file_does_not_say_is_told_or_given(made, capsys):
    model, bare = made / "model", made / "bare.npz"
    code, _, err = command(capsys, "fit-unit", model, bare, "--at", "0,0")
    assert (code, err.count("\n")) == (0, 2)
    assert "which must be 0.656, 0.486 um" in err
    given = ["--pixel", 5.05, "--wavelengths", "0.65,0.49"]
    assert command(capsys, "fit-unit", model, bare, "--at", "0,0", *given)[::2] == (0, "")
    assert command(capsys, "fit-unit", model, made / "plain.npz", "--at", "0,0")[::2] == (0, "")
    assert (
        command(capsys, "fit-unit", model, made / "one.npz", "--at", "0,0", "--pixel", 5, "--wavelengths", 0.486)[0]
        == 0
    )


def test_units_are_drawn_counted_and_written(made, tmp_path, capsys):
    out = tmp_path / "units.npz"
    at = ["--at", "0,0", "--at=-0.5,0.9"]
    asked = ["sample-units", made / "model", "--count", 30, *at, "--mtf50", 5, "--out", out]
    code, text, err = command(capsys, *asked)
    assert (code, err) == (0, "")
    assert "(-0.5, 0.9)" in text
    assert "MTF50 in lp/mm of 30 units; at 0.486 um" in text
    assert "yield: 100.0% of units have an MTF50 above 5 lp/mm at all 2 positions (95 %: 88.6% to 100.0%)" in text
    file = np.load(out)
    units = load_model(made / "model").sample_units(30, torch.Generator().manual_seed(0))
    np.testing.assert_allclose(file["kernels"], units.predict(file["points"]), atol=1e-6)
    assert json.loads(str(file["metadata"]))["kernel_pixel_um"] == PIXEL
    assert command(capsys, *asked)[1] == text
    assert command(capsys, *asked, "--seed", 1, "--channel", 1)[1] != text


FIT = [
    (["{made}/none", "unit.npz"], "none: no such run"),
    (["{made}/sets", "unit.npz"], "no such run"),
    (["{made}/other", "unit.npz"], "a model of cvae_psf knows no units; this takes one of cvae_asbuilt"),
    (["{model}", "unit.npz", "--at", "0,2"], "--at: expected x,y in [-1, 1] such as 0.5,-0.9, but got '0,2'"),
    (["{model}", "unit.npz", "--at", "a,b"], "--at: expected x,y in [-1, 1] such as 0.5,-0.9, but got 'a,b'"),
    (["{model}", "unit.npz", "--at", "0,0", "--grid", "5"], "--grid: cannot be given with --at"),
    (["{model}", "unit.npz", "--grid", "300"], "--grid"),
    (["{model}", "unit.npz", "--out", "unit.npz"], "--out: unit.npz is read by this command"),
    (["{model}", "unit.npz", "--out", "linked.npz"], "--out: linked.npz is read by this command"),
    (["{model}", "unit.npz", "--out", "model/model.safetensors"], "model.safetensors is read by this command"),
    (["{model}", "unit.npz", "--out", "x.csv"], "--out: expected a file ending in"),
    (["{model}", "unit.npz", "--out", "none/x.npz"], "--out: no such directory"),
    (["{model}", "unit.npz", "--wavelengths", "red"], "--wavelengths: expected numbers"),
    (["{model}", "missing.npz"], "missing.npz: no such file"),
    (["{model}", "unit.csv"], "expected a file ending in .npz, .fits, .safetensors, or a picture (.png, .tif)"),
    (["{model}", "lacks.npz"], "lacks.npz: lacks points;"),
    (["{model}", "lacks.safetensors"], "lacks.safetensors: lacks points;"),
    (["{model}", "alone.fits"], "alone.fits: lacks the table POINTS;"),
    (["{model}", "none.npz"], "none.npz: cannot be read as .npz: it holds no kernels"),
    (["{model}", "words.npz"], "kernels must be numbers, but got <U4"),
    (["{model}", "pixels.npz"], "pixel_um must be one number, but got 2"),
    (["{model}", "negative.npz"], "pixel_um must be positive, but got -5"),
    (["{model}", "named.npz"], "pixel_um must be numbers, but got <U4"),
    (["{model}", "wave.npz"], "wavelengths_um must be 2 numbers, but got one"),
    (["{model}", "focus.npz"], "focus_mm must be 4 numbers, but got one"),
    (["{model}", "empty.npz"], "empty.npz: cannot be read as .npz"),
    (["{model}", "short.npz"], "short.npz: cannot be read as .npz"),
    (["{model}", "torn.npz"], "torn.npz: cannot be read as .npz"),
    (["{model}", "damaged.npz"], "damaged.npz: cannot be read as .npz"),
    (["{model}", "damaged.fits"], "damaged.fits: cannot be read as .fits"),
    (["{model}", "damaged.safetensors"], "damaged.safetensors: cannot be read as .safetensors"),
    (["{model}", "unit.npz", "--centres", "grey16.png.csv"], "--centres: goes with a picture"),
    (["{model}", "grey16.png"], "grey16.png: needs --centres"),
    (["{model}", "damaged.png", "--centres", "grey16.png.csv"], "damaged.png: cannot be read as a picture"),
    (["{model}", "none.png", "--centres", "grey16.png.csv"], "none.png: no such file"),
    (["{model}", "grey16.png", "--centres", "none.csv"], "none.csv: cannot be read: No such file"),
]
FIT_WITH_MODEL = [
    (["unit.npz", "--channel", "3"], "--channel: this model has channels 1 to 2, but got 3"),
    (["unit.npz", "--pixel", "5"], "--pixel: "),
    (["pixel.npz"], "pixel.npz: its pixels are 6.5 um, but this model's are 5 um"),
    (["bare.npz", "--pixel", "4.8"], "bare.npz: its pixels are 4.8 um, but this model's are 5 um"),
    (["bare.npz", "--pixel", "nan"], "bare.npz: its pixels are nan um"),
    (["bare.npz", "--wavelengths", "nan,0.486"], "its wavelengths are nan, 0.486 um"),
    (["waves.npz"], "its wavelengths are 0.6, 0.486 um, but this model's are 0.656, 0.486 um"),
    (["bare.npz", "--wavelengths", "0.65,0.66"], "its wavelengths are 0.65, 0.66 um"),
    (["bare.npz", "--wavelengths", "0.65"], "--wavelengths: "),
    (["one.npz"], "has 1 colours, but this model has 2; name them with --wavelengths, of 0.656, 0.486"),
    (["bare.npz", "--wavelengths", "0.486,0.49"], "its wavelengths are 0.486, 0.49 um"),
    (
        ["one.npz", "--pixel", "5", "--wavelengths", "0.656"],
        "channel 1, 0.486 um must be measured, because kernels are centred by it",
    ),
    (["near.npz"], "near.npz: its depth_mm is -10300, but this model was trained at -10000 alone"),
    (["clipped.npz"], "pixels are saturated; expose less, or leave it out"),
    (["white.npz", "--white", "4095"], "pixels are saturated; expose less, or leave it out"),
    (["twice.npz"], "twice.npz: kernels[1] and kernels[3] are of the same point (0.45, -0.45)"),
    (["dark.npz"], "dark.npz: kernels[0, 0] at (-0.45, -0.45): no light"),
]
CENTRES = [
    ("column,row,x\n1,2,3\n", "lacks the column y; its first line must name column,row,x,y"),
    ("column,row,x,y\n", "holds no centres"),
    ("column,row,x,y\n7.5,7.5,0,0\n8,8,0,zero\n", "line 3: expected numbers column,row,x,y"),
    ("column,row,x,y\n7.5,7.5,0\n", "line 2: expected numbers column,row,x,y"),
    (
        "column,row,x,y\n7.5,7.5,0,0\n4,7.5,0,0\n",
        "line 3: the window of 12 x 12 pixels around column 4, row 7.5 reaches beyond the picture of 64 x 16",
    ),
]


def refused(capsys, says, *arguments):
    code, out, err = command(capsys, *arguments)
    assert code == 2, err
    assert says in err
    assert err.count("\n") == 1
    assert out == ""


@pytest.mark.parametrize(("arguments", "says"), FIT, ids=[says for _, says in FIT])
def test_bad_input_is_one_line(made, monkeypatch, capsys, arguments, says):
    (made / "other").mkdir(exist_ok=True)
    (made / "other" / "config.json").write_text('{"format": 3, "system": "cvae_psf"}')
    monkeypatch.chdir(made)
    refused(capsys, says, "fit-unit", *(one.format(made=made, model=made / "model") for one in arguments))


@pytest.mark.parametrize(("arguments", "says"), FIT_WITH_MODEL, ids=[says for _, says in FIT_WITH_MODEL])
def test_what_does_not_suit_the_model_is_named_with_both_values(made, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(made)
    refused(capsys, says, "fit-unit", "model", *arguments)


@pytest.mark.parametrize(("text", "says"), CENTRES, ids=[says for _, says in CENTRES])
def test_centres_are_checked_line_by_line(made, tmp_path, capsys, text, says):
    (tmp_path / "centres.csv").write_text(text)
    arguments = ["--centres", tmp_path / "centres.csv", "--wavelengths", 0.486]
    refused(capsys, says, "fit-unit", made / "model", made / "grey16.png", *arguments)


def test_drawn_units_are_no_measurement(made, tmp_path, capsys):
    out = tmp_path / "units.npz"
    assert command(capsys, "sample-units", made / "model", "--count", 3, "--out", out)[0] == 0
    refused(capsys, "it holds 3 units that a model drew", "fit-unit", made / "model", out)


def test_windows_of_whole_pixels_lie_one_pixel_apart():
    """A window of an even side has its middle between two pixels: always on the same side of the centre."""
    image = np.zeros((20, 20, 1), np.uint8)
    image[10, 10] = 1
    at = [Centre(float(column), float(column), 0.0, 0.0, 2, {}) for column in (8, 9, 10, 11)]
    kernels = Picture(image, at, Path("centres.csv")).cut(6).kernels
    found = [np.argwhere(kernel).tolist() for kernel in kernels[:, 0]]
    assert found == [[[4, 4]], [[3, 3]], [[2, 2]], [[1, 1]]]


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_peak_that_is_clipped_in_one_pixel_is_refused(made, tmp_path, capsys, kind):
    given = measured.read(made / "unit.npz")
    name = tmp_path / "clipped.png"
    picture(tmp_path, name.name, given.kernels, given.points, kind, channels=1)
    image = np.asarray(cv2.imread(str(name), cv2.IMREAD_UNCHANGED))
    image[np.unravel_index(image.argmax(), image.shape)] = np.iinfo(kind).max
    cv2.imwrite(str(name), image)
    says = "1 pixels around column"
    refused(capsys, says, "fit-unit", made / "model", name, "--centres", f"{name}.csv", "--wavelengths", 0.486)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--out", "units.fits"], "--out: expected a file ending in .npz, but got units.fits"),
        (["--count", "1"], "--count"),
        (
            ["--mtf50=-1"],
            "--mtf50: an MTF50 must be at least 0 and below 100 lp/mm, as pixels of 5 um show no finer lines",
        ),
        (["--mtf50=100"], "--mtf50: "),
        (["--mtf50=nan"], "--mtf50: "),
        (["--seed", str(2**64)], "--seed"),
        (["--seed=-1"], "--seed"),
        (["--count", "1000000"], "--count"),
        (["--channel", "3"], "--channel: this model has channels 1 to 2, but got 3"),
    ],
)
def test_samples_that_cannot_be_drawn(made, capsys, arguments, says):
    refused(capsys, says, "sample-units", made / "model", *arguments)


def test_centres_are_not_written_over(made, tmp_path, capsys):
    centres = tmp_path / "centres.npz"
    centres.write_bytes((made / "grey16.png.csv").read_bytes())
    asked = ["fit-unit", made / "model", made / "grey16.png", "--centres", centres, "--out", centres]
    refused(capsys, "is read by this command; name another file", *asked)


def test_a_run_s_model_is_found_by_its_name_and_one_without_is_refused(made, tmp_path, monkeypatch, capsys):
    run = tmp_path / "results" / "runs" / "mine"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    refused(capsys, "mine: this run has no exported model yet", "sample-units", "mine")
    (run / "model").symlink_to(made / "model")
    assert command(capsys, "sample-units", "mine", "--count", 3, "--at", "0,0")[0] == 0


def test_bad_input_loads_nothing_heavy(made):
    program = "import sys\nfrom search.cli import main\ntry: main(sys.argv[1:])\nfinally: print({'torch', 'ray', 'cv2'} & set(sys.modules))"
    arguments = ["fit-unit", made / "model", made / "lacks.npz"]
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (done.returncode, done.stdout) == (2, "set()\n")
