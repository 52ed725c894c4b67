"""`psf-search export`, as a user types it: files that other programs read, and what is refused."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from astropy.io import fits
from photutils.psf import GriddedPSFModel

from deeplens_workers import measured
from deeplens_workers.psf_file import write
from deeplens_workers.unit_file import UnitFile
from results import load_model
from results.run_directory import RunDirectory
from spaces import store
from tests.results.conftest import make_run, summary_of  # noqa: F401  # a fixture
from tests.search.test_unit_commands import command
from tests.trainables.asbuilt.synthetic import CHANNELS, FAR, SIDE, sets
from tests.trainables.asbuilt.test_learner import LEARNER, SMALL
from tests.trainables.psf.test_model import CONFIG, DEEP, optics
from trainables.asbuilt.data import AsBuiltSplit, AsBuiltTensors, observed
from trainables.asbuilt.set_facts import SetFacts
from trainables.asbuilt.trial import AsBuiltTrial
from trainables.exports import export
from trainables.networks.vae import VAE, VaeConfig
from trainables.psf.cvae import CVAE
from trainables.psf.model import PSFModel

DEPTHS = (-10000.0, -500.0)
SENSOR = (24.0, 16.0)


def facts(**changes: Any) -> dict[str, Any]:
    return {"optics": optics(**changes).model_dump(mode="json")}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Directories of exported models of random weights: flat, deep, bare (of an earlier version), images, units."""
    directory = tmp_path_factory.mktemp("export")
    torch.manual_seed(0)
    flat, deep = CVAE(CONFIG), CVAE(DEEP)
    for one in (flat, deep):
        torch.nn.init.normal_(one.decoder.head.weight, std=0.5)
    export(flat, "cvae_psf", directory / "flat", facts())
    (directory / "flat" / "card.md").write_text("# card\n")
    export(deep, "cvae_psf", directory / "deep", facts(depths_mm=DEPTHS))
    export(flat, "cvae_psf", directory / "bare")
    export(flat, "cvae_psf", directory / "triangle", facts(pixel_filter="triangle"))
    export(VAE(VaeConfig("conv", 1, 8, 2, 4, 8, "bernoulli")), "vae_image", directory / "images")
    split = {name: AsBuiltSplit.load(path) for name, path in sets(directory / "sets", units=12, positions=8).items()}
    known = SetFacts(10.0, (0.656, 0.486), {"depth_mm": FAR}, centred=True, square=True)
    data = AsBuiltTensors(split["train"], split["validation"], torch.device("cpu"), known)
    colours = (((0.656, 1.0),), ((0.486, 1.0),))
    model = LEARNER.build(AsBuiltTrial(**SMALL), data)
    export(model, "cvae_asbuilt", directory / "units", facts(kernel_px=SIDE, channels=colours, depths_mm=(FAR,)))
    seen = observed(split["test"], 4)
    file = UnitFile(seen.kernels[0].numpy(), seen.points[0].numpy(), 10.0, (0.656, 0.486), "test")
    write(directory / "measured.npz", file)
    (directory / "other.onnx").touch()
    return directory


def loaded(directory: Path) -> PSFModel:
    model = load_model(directory)
    assert isinstance(model, PSFModel)
    return model


def test_torch_copies_a_model_and_never_over_another(made, tmp_path, capsys):
    out = tmp_path / "copy"
    assert command(capsys, "export", made / "flat", "--out", out) == (0, f"{out}\n", "")
    assert {one.name: one.read_bytes() for one in out.iterdir()} == {
        one.name: one.read_bytes() for one in (made / "flat").iterdir()
    }
    code, _, err = command(capsys, "export", made / "flat", "--out", out)
    assert (code, f"--out: {out} exists" in err) == (2, True)


@pytest.mark.parametrize("suffix", ["npz", "safetensors", "fits"])
def test_a_cube_has_a_grid_of_kernels_at_every_distance(made, tmp_path, capsys, suffix):
    out = tmp_path / f"cube.{suffix}"
    code, text, err = command(capsys, "export", made / "deep", "--to", "cube", "--grid", "3x2", "--out", out)
    assert (code, text, err) == (0, f"{out}\n", "")
    found = measured.read(out)
    assert found.pixel_um == 10.0
    assert found.wavelengths_um == pytest.approx((0.656, 0.587, 0.486))
    at = found.at(("x", "y", "depth_mm"), out)
    x, y = np.meshgrid([-1.0, 0.0, 1.0], [-1.0, 1.0])
    expected = np.concatenate([np.column_stack([x.ravel(), y.ravel(), np.full(6, depth)]) for depth in DEPTHS])
    np.testing.assert_allclose(at, expected)
    torch.testing.assert_close(torch.from_numpy(found.kernels), loaded(made / "deep").predict(torch.from_numpy(at)))


def test_a_cube_of_one_distance(made, tmp_path, capsys):
    arguments = ("--to", "cube", "--grid", "2x2", "--depth", -1000, "--out", tmp_path / "cube.npz")
    assert command(capsys, "export", made / "deep", *arguments)[0] == 0
    file = np.load(tmp_path / "cube.npz")
    assert file["points"][:, 2].tolist() == [-1000.0] * 4
    np.testing.assert_allclose(file["image_mm"][-1], np.array(SENSOR) / 2)


def test_fits_has_a_file_for_each_channel_that_photutils_reads(made, tmp_path, capsys):
    out = tmp_path / "grid.fits"
    arguments = ("--to", "fits", "--grid", "5x4", "--pixel-um", 20, "--depth", -500, "--out", out)
    code, text, err = command(capsys, "export", made / "deep", *arguments)
    assert (code, err) == (0, "")
    said, *files = text.splitlines()
    assert files == [str(tmp_path / f"grid-{name}.fits") for name in ("1-656nm", "2-587nm", "3-486nm")]
    header = fits.getheader(files[2])
    assert (header["OVERSAMP"], header["CHANNEL"], header["WAVE1"], header["DEPTHMM"]) == (2, 3, "0.486", -500)
    assert f"{max(fits.getheader(file)['ERRMAX'] for file in files):.2g} at most" in said
    model = GriddedPSFModel.read(files[2])
    corner = loaded(made / "deep").predict(torch.tensor([[1.0, 1.0, -500.0]]))[0, 2].numpy()
    top_right = int(np.argmax(model.grid_xypos.sum(axis=1)))
    np.testing.assert_allclose(model.grid_xypos[top_right], [1199.5, 799.5])
    assert model.data[top_right].sum() == pytest.approx(4, abs=1e-5)
    np.testing.assert_allclose(model.data[top_right][0, 0], corner[-1, 0], atol=1e-7)  # row 0 is the lowest


def test_one_unit_of_a_model_of_units(made, tmp_path, capsys):
    out = tmp_path / "unit.npz"
    code, _, err = command(
        capsys, "export", made / "units", "--to", "cube", "--unit", made / "measured.npz", "--grid", "3x3", "--out", out
    )
    assert (code, err) == (0, "")
    found, given = measured.read(out), measured.read(made / "measured.npz")
    unit = load_model(made / "units").fit(given.kernels, given.points)
    torch.testing.assert_close(torch.from_numpy(found.kernels), unit.predict(found.points))
    assert found.kernels.shape == (9, CHANNELS, SIDE, SIDE)


@pytest.mark.slow
def test_onnx_of_kernels_and_of_images(made, tmp_path, capsys):
    flat = tmp_path / "flat.onnx"
    assert command(capsys, "export", made / "flat", "--to", "onnx", "--out", flat) == (0, f"{flat}\n", "")
    at = torch.rand(5, 2)
    (found,) = onnxruntime.InferenceSession(flat).run(None, {"points": at.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), loaded(made / "flat").predict(at), atol=1e-6, rtol=0)
    code, text, _ = command(capsys, "export", made / "images", "--to", "onnx", "--out", tmp_path / "images.onnx")
    files = [tmp_path / f"images-{part}.onnx" for part in ("decoder", "encoder")]
    assert (code, text.splitlines()) == (0, [str(one) for one in files])
    (image,) = onnxruntime.InferenceSession(files[0]).run(None, {"z": np.zeros((1, 2), np.float32)})
    torch.testing.assert_close(torch.from_numpy(image), load_model(made / "images").generate(torch.zeros(1, 2)))


@pytest.mark.parametrize(
    ("model", "arguments", "why"),
    [
        ("nothing", ["--to", "onnx"], "nothing: no such run"),
        ("flat", ["--to", "onxx"], "--to onxx: no such format; did you mean 'onnx'?"),
        ("flat", ["--to", "csv"], "--to csv: no such format; valid: torch, onnx, fits, cube"),
        ("flat", ["--to", "onnx", "--grid", "4x4"], "--grid: goes with --to fits, cube, not with --to onnx"),
        ("flat", ["--to", "cube", "--pixel-um", "20"], "--pixel-um: goes with --to fits, not with --to cube"),
        ("flat", ["--to", "onnx", "--out", "other.onnx"], "--out: other.onnx exists"),
        ("flat", ["--to", "fits", "--out", "grid.npz"], "--out: expected a file ending in .fits, but got grid.npz"),
        ("flat", ["--to", "onnx", "--out", "none/a.onnx"], "--out: no such directory"),
        ("flat", ["--to", "torch", "--out", "other.onnx/a"], "cannot be written to"),
        (
            "flat",
            ["--to", "fits", "--grid", "1x1"],
            "--grid: expected 2 to 256 positions along x and along y, but got 1x1",
        ),
        ("flat", ["--to", "fits", "--grid", "5"], "--grid: expected numbers such as 32x32"),
        ("flat", ["--to", "fits", "--pixel-um", "15"], "--to fits: a detector's pixel has 1 to 15"),
        ("triangle", ["--to", "fits"], "--to fits: these kernels' pixels gather by a triangle"),
        (
            "flat",
            ["--to", "fits", "--depth", "-500"],
            "depth_mm: this model's kernels have one, -10000 mm, but got -500",
        ),
        ("deep", ["--to", "cube", "--depth", "-5"], "depth_mm lies between -10000 and -500 mm"),
        ("flat", ["--to", "fits", "--unit", "measured.npz"], "a model of cvae_psf knows no units"),
        ("units", ["--to", "fits"], "a model of many units; name the measured PSFs of one: --unit MEASURED"),
        ("units", ["--to", "fits", "--unit", "none.npz"], "none.npz: no such file"),
        ("images", ["--to", "fits"], "a model of vae_image has no PSFs; valid for it: --to torch, --to onnx"),
        ("bare", ["--to", "onnx"], "does not say what the kernels are of (`optics`); give the run that it is of"),
        ("bare", ["--to", "fits"], "does not say what the kernels are of (`optics`); give the run that it is of"),
    ],
)
def test_refusals_are_one_line_and_leave_nothing(made, capsys, monkeypatch, model, arguments, why):
    monkeypatch.chdir(made)
    before = sorted(made.iterdir())
    code, out, err = command(capsys, "export", model, *arguments)
    assert (code in (1, 2), out) == (True, "")
    assert why in err
    assert err.count("\n") == 1
    assert sorted(made.iterdir()) == before


@pytest.mark.parametrize(("form", "missing"), [("onnx", "onnxscript"), ("fits", "astropy")])
def test_a_missing_extra_is_named(made, tmp_path, capsys, monkeypatch, form, missing):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else real(name))
    code, _, err = command(capsys, "export", made / "flat", "--to", form, "--out", tmp_path / f"a.{form}")
    assert code == 2
    assert f"pip install 'psf-search[{form}]'" in err


@pytest.fixture
def old_run(make_run, made, tmp_path) -> RunDirectory:  # noqa: F811
    """A run whose winner was exported by a version that did not write down what its kernels are of."""
    sensor = json.dumps({"sensor_mm": SENSOR, "primary_um": 0.587})
    settings = (f"data.lens_facts={sensor}", "data.depths_mm=[-10000]", "data.pixel_pitch_um=10")
    run: RunDirectory = make_run(name="old", overrides=settings)
    ideal = np.stack(np.meshgrid(*[np.linspace(-1, 1, 5)] * 2), axis=-1).reshape(-1, 2)
    offsets = -0.03 * ideal * [1200, 800]  # pixels of half a sensor: all is 3 % smaller
    points = np.column_stack([ideal, np.full(25, -10000.0)])
    entry = store.write(tmp_path / "cache", {"made": "here"}, {"points": points, "chief_ray_offset_px": offsets})
    record = run.read_record()
    run.rewrite_record(record.model_copy(update={"data": dict.fromkeys(record.data, str(entry))}))
    export(CVAE(CONFIG), "cvae_psf", run.model)
    run.write_summary(summary_of("old"))
    return run


def test_what_an_earlier_version_exported_is_written_anew_with_what_its_kernels_are_of(old_run, tmp_path, capsys):
    out = tmp_path / "new"
    assert command(capsys, "export", old_run.path, "--out", out) == (0, f"{out}\n", "")
    known = loaded(out).optics
    assert (known.lens, known.lens_sha256, known.sensor_mm) == ("cooke_triplet_50mm", "0" * 64, SENSOR)
    assert known.ideal_points(np.array([0.5, 0.0]))[0] == pytest.approx(0.5 / 0.97, abs=1e-3)
    assert "optics" not in json.loads((old_run.model / "config.json").read_text())
    assert command(capsys, "export", old_run.model, "--to", "cube", "--out", tmp_path / "a.npz")[0] == 0


def test_a_run_without_a_winner_is_refused(make_run, tmp_path, capsys):  # noqa: F811
    run = make_run(name="going")
    code, _, err = command(capsys, "export", run.path, "--to", "cube", "--out", tmp_path / "a.npz")
    assert code == 2
    assert "going: this run has no exported model yet" in err
