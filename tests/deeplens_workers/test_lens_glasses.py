"""Glasses that .zmx and .seq files name, and what a private one is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deeplens_workers.lens_file import find_lens
from tests.deeplens_workers.lens_writers import SINGLET, changed, codev, write, zemax
from tests.deeplens_workers.reading import (
    found,
    lens_surfaces,
    refused,
    thick_lens,
)
from tests.deeplens_workers.reference import bk7


def test_a_private_glass_by_a_power_series(tmp_path):
    own = "PRV\n  'MINE' {}\nEND"
    schott = "LAU 2.2718929 -1.0108077E-02 1.0592509E-02 2.0816965E-04 -7.6472538E-06 4.9240991E-07"  # BK7's, of old
    design = replace(changed(0, glass="'MINE'"), waves_nm=(486.1, 587.6, 656.3), primary=2)
    lens = found(tmp_path, replace(design, head={"LATE": own.format(schott)}), ".seq")
    assert lens.conditions.focal_length_mm == pytest.approx(thick_lens(50, -50, 4, bk7(0.5876)), rel=1e-3)
    for formula, why in (
        ("SEL 1 2", "SEL 1 2: of formulas only LAU"),
        ("LAU", "coefficients"),
        ("LAU 0.5", "at least 1"),
    ):
        text = codev(replace(design, head={"LATE": own.format(formula)}))
        assert why in refused(tmp_path, "own.seq", text)


def test_glasses_by_every_kind_of_name(tmp_path):
    for word, glass in (
        ("N-BK7", "n-bk7"),
        ("NBK7_SCHOTT", "n-bk7"),
        ("BK7", "bk7"),
        ("517.642", "1.517/64.2"),
        ("517642", "1.517/64.2"),
        ("516800.641700", "1.516800/64.17"),
        ("SBSL7_OHARA", "s-bsl7"),
    ):
        assert lens_surfaces(found(tmp_path, changed(0, glass=word), ".seq"))[0]["mat2"] == glass
    for line, glass, note in (
        ("___BLANK 1 0 1.62 36.4", "1.62/36.4", ""),
        ("n-bk7 0 0 1.5168 64.17", "n-bk7", ""),
        ("MINE 0 0 1.62 36.4 0 0", "1.62/36.4", "MINE"),
    ):
        text = zemax(SINGLET).replace("GLAS N-BK7 0 0 1.5 40", f"GLAS {line}")
        lens = find_lens(write(tmp_path, "glass.zmx", text))
        assert lens_surfaces(lens)[0]["mat2"] == glass
        assert bool(note) == bool(lens.notes)
        assert all(note in one for one in lens.notes)


def glass_line(line: str, catalogues: str = "GCAT SCHOTT") -> str:
    """SINGLET as a .zmx file with another GLAS line and other catalogues."""
    text = zemax(SINGLET).replace("GLAS N-BK7 0 0 1.5 40 0 0 0 0 0 0", f"GLAS {line}")
    return text.replace("GCAT SCHOTT", catalogues)


@pytest.mark.parametrize(
    ("catalogues", "line", "glass"),
    [
        ("GCAT LZOS", "BK10 0 0 1.5 40", "glass BK10 is SCHOTT's in DeepLens; the file's catalogues are LZOS"),
        ("GCAT CDGM", "F4 0 0 0 0", "glass F4 is SCHOTT's in DeepLens; the file's catalogues are CDGM"),
        ("GCAT CDGM", "F4 0 0 1.6166 36.63", "f4"),
        ("GCAT CDGM", "F4 0 0 1.62005 36.36", "1.62005"),
        ("GCAT UNHEARD_OF", "N-BK7 0 0 1.5 40", "is SCHOTT's"),
        ("GCAT CDGM\nGCAT SCHOTT_2017", "F4 0 0 1.5 40", "f4"),
        ("GCAT NIKON-HIKARI", "BAF3 0 0 1.5 40", "baf3"),
        ("GCAT INFRARED", "CAF2 0 0 1.5 40", "caf2"),
        ("", "F4 0 0 1.5 40", "f4"),
        ("GCAT SCHOTT", "F4 1 0 1.6166 36.63", "f4"),
        ("GCAT SCHOTT", "F4 1 0 1.6166 38", "1.6166/38"),
        ("GCAT SCHOTT", "F4 1 0 1.5 40", "1.5/40"),
        ("GCAT SCHOTT", "F4 1 0 0 0", "model glass"),
    ],
)
def test_a_glass_is_of_a_maker_that_the_file_names(tmp_path, catalogues, line, glass):
    text = glass_line(line, catalogues)
    if " " in glass or glass == "1.62005":
        assert glass in refused(tmp_path, "glass.zmx", text)
    else:
        assert lens_surfaces(find_lens(write(tmp_path, "glass.zmx", text)))[0]["mat2"] == glass


def test_notes_on_glasses(tmp_path):
    for line, note in (
        ("F4 1 0 1.6166 38", "glass F4 is a model: its own nd 1.6166 and Vd 38 are used"),
        ("___BLANK 1 0 1.62 36.4 0.01", "dPgF 0.01 is not used"),
    ):
        assert note in find_lens(write(tmp_path, "glass.zmx", glass_line(line))).notes[0]
    taken = found(tmp_path, changed(0, glass="SBSL7"), ".seq")
    assert taken.notes == ("glass SBSL7 is taken to be OHARA's",)
    assert found(tmp_path, changed(0, glass="NBK7"), ".seq").notes == ()
    assert lens_surfaces(found(tmp_path, changed(0, glass="PMMA_SPECIAL"), ".seq"))[0]["mat2"] == "pmma"
    for word, why in (
        ("STIL6_UNHEARD", "no catalogue"),
        ("003.291", "a code below 300 may mean an index above 2: write nd/Vd"),
        ("003291", "write nd/Vd"),
        ("5168000.642", "no catalogue"),
    ):
        assert why in refused(tmp_path, "glass.seq", codev(changed(0, glass=word)))


def test_an_index_and_an_abbe_number_say_nothing_of_the_infrared(tmp_path):
    infrared = replace(changed(0, glass="517.642"), waves_nm=(1550.0,))
    assert "517.642: its nd and Vd give no index at 1.55 um" in refused(tmp_path, "mine.seq", codev(infrared))
    for glass in ("___BLANK 1 0 1.62 36.4", "MINE 0 0 1.62 36.4"):
        text = zemax(replace(SINGLET, waves_nm=(1550.0,))).replace("GLAS N-BK7 0 0 1.5 40", f"GLAS {glass}")
        assert "no index at 1.55 um" in refused(tmp_path, "mine.zmx", text)


def test_a_private_glass_is_fitted_where_the_lens_uses_it(tmp_path):
    waves = (400.0, 486.1, 587.6, 656.3, 1000.0)
    table = " ".join(f"{bk7(wave / 1000):.7f}" for wave in waves)
    own = f"PRV\n  PWL {' '.join(map(str, waves))}\n  'MINE' {table}\nEND"
    design = replace(changed(0, glass="'MINE'"), waves_nm=(486.1, 587.6, 656.3), primary=2, head={"LATE": own})
    lens = found(tmp_path, design, ".seq")
    assert lens.conditions.focal_length_mm == pytest.approx(thick_lens(50, -50, 4, bk7(0.5876)), rel=1e-3)
    assert "MINE is fitted" in lens.notes[0]
    wrong = codev(design).replace(table, table.replace(table.split()[2], "1.53"))
    assert "misses its indices" in refused(tmp_path, "own.seq", wrong)
    assert "4 indices at 5" in refused(tmp_path, "own.seq", codev(design).replace(table, table[9:].strip()))
    assert "from 0.4 to 1 um" in refused(tmp_path, "own.seq", codev(replace(design, waves_nm=(1100.0,), primary=1)))
    assert "END is missing" in refused(tmp_path, "own.seq", codev(design).replace("END\n", ""))
