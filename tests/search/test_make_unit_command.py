"""`psf-search make-unit`: a unit's lens file, which the other commands take."""

import json

import pytest

from deeplens_workers.lens_file import LENSES, find_lens
from search.cli import main

UNIT = ["make-unit", "--space", "cvae_asbuilt", "--unit", "train/17"]


def test_the_file_is_the_unit_that_its_name_says_whatever_the_presets_number_of_units(tmp_path, capsys):
    files = [tmp_path / f"{preset}.json" for preset in ("quick", "standard")]
    for file in files:
        with pytest.raises(SystemExit, match="0"):
            main([*UNIT, "--seed", "2", "--preset", file.stem, "--out", str(file)])
    out, err = capsys.readouterr()
    assert out.splitlines() == [str(file) for file in files]
    assert "within 8e-05" in err
    assert files[0].read_text() == files[1].read_text()
    tree = json.loads(files[0].read_text())
    assert (tree["(unit)"]["name"], tree["(unit)"]["seed"]) == ("train/17", 2)
    lens = find_lens(str(files[0]))
    assert lens.conditions.wavelengths_um == (0.656, 0.587, 0.486)
    assert lens.conditions.sampling == (6.4, 32)


def test_a_lens_is_not_written_over(tmp_path, capsys):
    lens = tmp_path / "lens.json"
    lens.write_text((LENSES / "cooke_triplet_50mm.json").read_text())
    before = lens.read_text()
    for command in ([*UNIT, "--lens", str(lens), "--out", str(lens)], ["lens", str(lens), "--to", str(lens)]):
        with pytest.raises(SystemExit, match="2"):
            main(command)
        assert "is read by this command; name another file" in capsys.readouterr().err
    assert lens.read_text() == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--unit", "trian/17"], "SET one of train, validation, test, stream"),
        (["--space", "cvae_psf"], "cvae_psf knows no units; it takes one of cvae_asbuilt"),
        (["--out", "unit.zmx"], "ending in .json"),
        (["--out", "/nonexistent/unit.json"], "no such directory"),
        (["--set", "data.tolerances.grade=best"], "data.tolerances.grade"),
        (["--set", "data.tolerances.tilt_arcmin=3000"], "element 1 tilt_x_arcmin"),
        (["--seed", str(2**64)], "--seed"),
    ],
)
def test_bad_input_is_told_in_a_line(tmp_path, capsys, arguments, says):
    with pytest.raises(SystemExit) as left:
        main([*UNIT, "--out", str(tmp_path / "unit.json"), *arguments])
    assert left.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
