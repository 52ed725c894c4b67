"""`psf-search lens`, as a user types it: tables, drawings, the JSON it writes, and what it refuses."""

import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from deeplens_workers.lens_file import LENSES, find_lens
from search.cli import main
from tests.deeplens_workers.lens_writers import SINGLET, codev, write, zemax
from tests.drawings import marks, numbers
from tests.drawings import written as drawing


def lens(capsys, *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    try:
        main(["lens", *arguments])
        code = 0
    except SystemExit as left:
        code = int(left.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def test_it_tables_draws_and_writes_what_reads_back_the_same(tmp_path, capsys):
    path, json_path = write(tmp_path, "mine.zmx", zemax(SINGLET)), tmp_path / "mine.json"
    code, out, err = lens(capsys, str(path), "--out", str(tmp_path / "drawn"), "--to", str(json_path))
    assert (code, err) == (0, "")
    assert "n-bk7" in out
    assert str(json_path) in out.splitlines()
    for name in ("layout", "spots"):
        picture = (tmp_path / "drawn" / f"{name}.png").read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert ElementTree.parse(tmp_path / "drawn" / f"{name}.svg").getroot().tag.endswith("svg")
    read, written = find_lens(str(path)), find_lens(str(json_path))
    assert written.text == read.text
    for name in ("wavelengths_um", "primary_um", "depth_mm", "sensor_mm"):
        assert getattr(written.conditions, name) == getattr(read.conditions, name)
    assert written.conditions.focal_length_mm == pytest.approx(read.conditions.focal_length_mm)


def test_the_view_is_the_lens(tmp_path):
    """The chief ray of every field passes the stop's centre, and rays end on the sensor or at an opening."""
    from deeplens_workers.lens_view import table, view
    from deeplens_workers.preparation import fill_in
    from deeplens_workers.psf_data import PsfData
    from trainables.psf.lens_figures import lens_figures

    triplet = find_lens("cooke_triplet_50mm")
    rows = table(triplet)
    assert [row[0] for row in rows] == ["1", "2", "3", "4", "5 stop", "6", "7"]
    assert rows[0][1:4] == ("22.0136", "3.25896", "n-sk16")
    seen = view(triplet, fill_in(PsfData(lens="cooke_triplet_50mm"), triplet))
    sensor_z = seen.section.sensor[0, 0]
    ends = [
        np.array([ray[-1] for ray in field if ray[-1, 0] == pytest.approx(sensor_z)]) for field in seen.section.rays
    ]
    assert len(ends[0]) == len(seen.section.rays[0])  # nothing is vignetted on the axis
    assert np.abs(ends[0][:, 1]).max() < 0.05
    assert np.median(ends[2][:, 1]) == pytest.approx(-18.2, rel=0.02)
    assert seen.curves.illumination[0] == pytest.approx(1.0, abs=1e-3)
    assert 0.8 < seen.curves.illumination[-1] < 0.95
    assert seen.curves.distortion[0] == 0
    assert np.abs(seen.curves.distortion).max() < 0.01
    assert seen.curves.rms_um[-1] == pytest.approx(25.2, rel=0.02)
    figures = lens_figures(seen)
    figure, numbers_of = drawing(figures["layout"], tmp_path / "layout")
    assert marks(figure.axes[0], "x") == numbers(numbers_of["z_mm"])
    assert marks(figure.axes[0], "y") == numbers(numbers_of["height_mm"])
    figure, numbers_of = drawing(figures["spots"], tmp_path / "spots")
    for axis, (_, panel) in zip(figure.axes, numbers_of.groupby("panel", sort=False), strict=True):
        assert marks(axis, "x") == numbers(panel["x"])
        assert marks(axis, "y") == numbers(panel["y"])


def test_a_kernel_larger_than_the_files_window_gets_a_window_of_its_own(capsys):
    with pytest.raises(SystemExit) as left:
        main(["run", "--space", "cvae_psf", "--dry-run", "--set", "data.kernel_px=65"])
    assert left.value.code == 0
    assert "  trace_px: 65" in capsys.readouterr().out


def test_distortion_is_that_of_the_corner_of_any_sensor():
    """Of a sensor twice as wide as high, and by the chief rays themselves."""
    from deeplens_workers.lens_view import NEAR_AXIS, view
    from deeplens_workers.preparation import fill_in
    from deeplens_workers.psf_data import PsfData
    from deeplens_workers.pupil import find_pupils
    from deeplens_workers.raytrace import RayTracer

    wide = find_lens("cooke_triplet_50mm", sensor_mm=(30.0, 15.0))
    data = fill_in(PsfData(lens="cooke_triplet_50mm", sensor_mm=(30.0, 15.0)), wide)
    tracer = RayTracer(wide, 3.2)
    places = tracer.object_points(np.array([[f, f, data.depths_mm[0]] for f in (NEAR_AXIS, 1.0)]))
    waves = np.full(2, tracer.primary_um)
    chief = tracer.chief_rays(places, waves, find_pupils(tracer, places, waves, symmetric=False))
    scale = np.hypot(*chief.T) / np.hypot(*tracer.pinhole_images(places).T)
    assert view(wide, data).curves.distortion[-1] == pytest.approx(scale[1] / scale[0] - 1, rel=0.02)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("cooke_triplt_50mm",), "did you mean"),
        (("cooke_triplet_50mm", "--to", "x.zmx"), "--to"),
        (("cooke_triplet_50mm", "--sensor", "36"), "--sensor"),
        (("cooke_triplet_50mm", "--configuration", "2"), "configuration 2"),
        (("cooke_triplet_50mm", "--depth", "5"), "depths_mm"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, out, err = lens(capsys, *arguments)
    assert code == 2
    assert words in err
    assert err.count("\n") == 1
    assert "Traceback" not in out + err
    assert list(tmp_path.iterdir()) == []


def test_a_lens_whose_light_reaches_no_sensor_is_refused_by_a_dry_run(tmp_path, capsys):
    """What only tracing shows is refused before a search, too, and in one line."""
    tree = json.loads((LENSES / "cooke_triplet_50mm.json").read_text())
    tree["surfaces"][4]["d_next"] = 90.0  # the last lens far behind the stop: hardly a ray goes through
    tree["surfaces"][5]["r"] = tree["surfaces"][6]["r"] = 0.001
    path = write(tmp_path, "dark.json", json.dumps(tree))
    for arguments in (["lens", str(path)], ["run", "--space", "cvae_psf", "--lens", str(path), "--dry-run"]):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_what_a_file_says_is_the_default_of_a_run_and_an_option_overrides_it(tmp_path, capsys):
    path = write(tmp_path, "mine.seq", codev(SINGLET))
    with pytest.raises(SystemExit) as left:
        main(["run", "--space", "cvae_psf", "--lens", str(path), "--dry-run", "--set", "data.depths_mm=[-500]"])
    assert left.value.code == 0
    plan = capsys.readouterr().out.split("\n\n")[-1]
    lines = dict(line.split(maxsplit=1) for line in plan.splitlines())
    assert lines["object"].startswith("-500 mm (as given)")
    assert "the file" in lines["wavelengths"]
    assert "CIR" in lines["sensor"]
    assert "spots" in lines["pitch"]
    assert "spots" in lines["window"]
