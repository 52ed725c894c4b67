import json
import subprocess
import sys

import numpy as np
import pytest

from deeplens_workers import glasses
from deeplens_workers.lens_file import LENSES, available, find_lens
from spaces.errors import SpaceError


def test_shipped_lenses_are_found_by_name_and_by_path():
    assert available() == ["cooke_triplet_50mm", "double_gauss_100mm", "phone_wide_5mm", "plano_hyperbolic_50mm"]
    for name in available():
        assert find_lens(name) == find_lens(str(LENSES / f"{name}.json"))
    assert find_lens("cooke_triplet_50mm").sha256 != find_lens("double_gauss_100mm").sha256


def edited(tmp_path, change) -> str:
    tree = json.loads((LENSES / "cooke_triplet_50mm.json").read_text())
    change(tree)
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(tree))
    return str(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("surfaces"), ["surfaces: missing"]),
        (lambda t: t.update(surfaces=[]), ["surfaces", "at least 1"]),
        (lambda t: t.pop("r_sensor"), ["missing `r_sensor`", "`sensor_size`"]),
        (lambda t: t.update(r_sensor=-1), ["r_sensor", "greater than 0", "-1"]),
        (lambda t: t["surfaces"][1].pop("d_next"), ["surfaces.1.d_next: missing"]),
        (lambda t: t["surfaces"][1].pop("roc"), ["surfaces.1", "`roc` or `c`"]),
        (lambda t: t["surfaces"][4].pop("r"), ["surfaces.4", "`r`"]),
        (lambda t: t["surfaces"][2].update(type="Sferic"), ["surfaces.2.type", "'Sferic'", "did you mean 'Spheric'?"]),
        (lambda t: t["surfaces"][2].update(mat2="n-sk61"), ["surfaces.2", "mat2", "'n-sk61'", "did you mean 'n-sk"]),
        (lambda t: t["surfaces"][2].update(roc=float("nan")), ["must be finite", "NaN"]),
        (lambda t: t["surfaces"][2].update(note=[float("inf")]), ["must be finite", "Infinity"]),
        (lambda t: t.update(primary_wvln=587), ["primary_wvln", "587"]),
        (lambda t: t.update(obj_depth=100), ["obj_depth", "100"]),
        (lambda t: t.update(wvlnrgb=[0.6, 0.5, 0.4]), ["`wvlnrgb`", "did you mean `wvln_rgb`?"]),
        (lambda t: t["surfaces"][2].update(pos_xyy=[0.2, 0.1]), ["surfaces.2", "`pos_xyy`", "did you mean 'pos_xy'?"]),
        (lambda t: t["surfaces"][2].update(tilt=3), ["surfaces.2", "a Spheric surface has no `tilt`"]),
        (lambda t: t["surfaces"][2].update(k=-1), ["surfaces.2", "a Spheric surface has no `k`"]),
        (lambda t: t["surfaces"][2].update(roc="x", c=0.5), ["`roc` must be a number"]),
        (lambda t: t["surfaces"][2].update(c=0.5), ["surfaces.2", "`roc` and `c` contradict each other"]),
    ],
)
def test_a_malformed_lens_is_one_line_naming_file_key_and_remedy(tmp_path, change, words):
    path = edited(tmp_path, change)
    with pytest.raises(SpaceError) as caught:
        find_lens(path)
    message = str(caught.value)
    assert "\n" not in message
    for word in [path, *words]:
        assert word in message


def test_legacy_and_informational_keys_are_accepted(tmp_path):
    def change(tree):
        tree["(sensor_size)"] = [25.7, 25.7]
        del tree["r_sensor"]
        tree["surfaces"][0]["mat2"] = "1.62/60.3"
        tree["surfaces"][1] |= {"c": 1 / tree["surfaces"][1]["roc"]}
        tree["surfaces"][2] |= {"roc": 0, "c": 0.0}

    assert find_lens(edited(tmp_path, change)).name == "mine"


def test_a_json_lens_has_its_conditions(tmp_path):
    shipped = find_lens("cooke_triplet_50mm")
    assert shipped.conditions.wavelengths_um == (0.656, 0.587, 0.486)
    assert shipped.conditions.primary_um == 0.587
    assert shipped.conditions.depth_mm == -10000.0
    assert shipped.conditions.sources["depth"] == "default"
    assert shipped.conditions.focal_length_mm == pytest.approx(50.02, abs=0.01)
    assert shipped.conditions.f_number == pytest.approx(4.8, abs=0.05)
    assert shipped.notes == ()
    assert hash(shipped) == hash(find_lens("cooke_triplet_50mm"))
    near = find_lens(edited(tmp_path, lambda tree: tree.update(obj_depth=-700.0, wvln_rgb=[0.5, 0.6, 0.7])))
    assert near.conditions.depth_mm == -700.0
    assert near.conditions.wavelengths_um == (0.7, 0.6, 0.5)


def test_the_sensor_of_a_json_lens(tmp_path):
    half = find_lens(edited(tmp_path, lambda tree: tree.update(r_sensor=18.2)))
    assert half.conditions.sensor_mm == pytest.approx((18.2 * 2**0.5, 18.2 * 2**0.5))
    both = find_lens(edited(tmp_path, lambda tree: tree.update(r_sensor=18.2, sensor_size=[36, 24])))
    assert both.conditions.sensor_mm == (36.0, 24.0)
    assert "21.63" in both.notes[0]
    assert "18.2" in both.notes[0]
    tree = json.loads(both.text)
    assert "r_sensor" not in tree
    assert tree["sensor_res"] == [3000, 2000]
    same = find_lens(edited(tmp_path, lambda tree: tree.update(r_sensor=21.633, sensor_size=[36, 24])))
    assert same.notes == ()
    asked = find_lens(edited(tmp_path, lambda tree: tree.update(r_sensor=18.2)), sensor_mm=(12.0, 8.0))
    assert asked.conditions.sensor_mm == (12.0, 8.0)
    assert asked.conditions.sources["sensor"] == "as given"


@pytest.mark.parametrize("name", available())
def test_the_text_loads_as_deeplens_loads_the_file(name):
    from deeplens import GeoLens

    from deeplens_workers.raytrace import RayTracer

    lens = find_lens(name)
    ours, theirs = RayTracer(lens, 3.2), GeoLens(str(lens.path), device="cpu")
    np.testing.assert_allclose(2 * ours.half_sensor, theirs.sensor_size, rtol=1e-7)
    assert [surface.surf_dict() for surface in ours._lens.surfaces] == [one.surf_dict() for one in theirs.surfaces]
    assert ours.foclen == pytest.approx(lens.conditions.focal_length_mm, rel=1e-6)


def test_old_aspheres_keep_the_meaning_that_deeplens_gives_them(tmp_path):
    def change(tree):
        tree["surfaces"][0] |= {"type": "Aspheric", "k": 0.0, "ai": [1e-3, 0.0]}

    lens = find_lens(edited(tmp_path, change))
    first = json.loads(lens.text)["surfaces"][0]
    assert (first["ai"], first["use_ai2"]) == ([1e-3, 0.0], True)
    curved = find_lens(edited(tmp_path, lambda tree: tree["surfaces"][0].update(roc=1 / (1 / 22.01359 + 2e-3))))
    assert lens.conditions.focal_length_mm == pytest.approx(curved.conditions.focal_length_mm, rel=1e-9)
    assert "surfaces: `k` must be a number" in message_of(
        edited(tmp_path, lambda t: t["surfaces"][0].update(type="Aspheric", k="x"))
    )


def message_of(path: str) -> str:
    with pytest.raises(SpaceError) as caught:
        find_lens(path)
    return str(caught.value)


def test_surfaces_that_are_not_followed_leave_first_order_open(tmp_path):
    for change in ({"type": "ThinLens", "f": 50.0, "roc": 0}, {"pos_xy": [0.1, 0.0]}, {"is_square": True}):
        conditions = find_lens(
            edited(tmp_path, lambda tree, change=change: tree["surfaces"][0].update(change))
        ).conditions
        assert (conditions.focal_length_mm, conditions.f_number, conditions.field_deg) == (None, None, None)
        assert conditions.depth_mm == -10000.0


def test_missing_lens_names_the_nearest():
    with pytest.raises(SpaceError, match=r"cooke_tripel: no such .* did you mean 'cooke_triplet_50mm'\?"):
        find_lens("cooke_tripel")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("bad.json", '{"surfaces": [', ["not valid JSON", "line 1"]),
        ("list.json", "[]", ["expected a mapping"]),
        ("huge.json", '{"r_sensor": 1e999}', ["finite", "1e999"]),
        ("lens.txt", "", [".json, .zmx, .seq"]),
        ("few.zmx", "UNIT MM\nSURF 0\n  TYPE STANDARD\n", ["SURF", "got 1"]),
        ("ell.zmx", "UNIT ELL\nSURF 0\nSURF 1\nSURF 2\n", ["line 1", "UNIT", "ELL", "MM"]),
        ("odd.zmx", "UNIT MM\nSURF 0\nSURF 1\n TYPE TOROIDAL\nSURF 2\n", ["TYPE", "TOROIDAL"]),
        ("few.seq", "RDM\nSO 0 1e10\nSI 0 0\n", ["`S` line"]),
    ],
)
def test_files_that_are_no_lens(tmp_path, name, text, words):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(SpaceError) as caught:
        find_lens(str(path))
    for word in [name, *words]:
        assert word in str(caught.value)


def test_checking_a_lens_imports_nothing_heavy():
    code = (
        "import sys; from deeplens_workers.lens_file import find_lens; import deeplens_workers.dataset\n"
        "find_lens('cooke_triplet_50mm')\n"
        "assert not {'torch', 'deeplens', 'ray'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def unrelated_deeplens(tmp_path, monkeypatch):
    info = tmp_path / "deeplens-0.0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: deeplens\nVersion: 0.0.1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    glasses.deeplens_version.cache_clear()
    yield
    glasses.deeplens_version.cache_clear()


@pytest.mark.usefixtures("unrelated_deeplens")
def test_the_unrelated_distribution_of_the_same_name_is_refused():
    with pytest.raises(SpaceError, match=r"`deeplens` 0\.0\.1 .* deeplens-core"):
        find_lens("cooke_triplet_50mm")
