"""What .zmx and .seq files mean: each against a tracer that never saw the file."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deeplens_workers.lens_file import LensFile, find_lens
from spaces.errors import SpaceError
from tests.deeplens_workers.lens_writers import SINGLET, Design, S, changed, codev, write, zemax
from tests.deeplens_workers.reading import (
    WRITERS,
    F,
    N,
    direction,
    found,
    lens_surfaces,
    refused,
    rendered_rms_um,
    stop_radius,
    thick_lens,
)
from tests.deeplens_workers.reference import bk7, rms_um


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize(
    ("design", "focal", "radius"),
    [
        (SINGLET, F, 5.0),
        (changed(0, conic=-1.2), F, 5.0),
        (changed(0, conic=-0.8, terms=(-3e-6, 5e-9)), F, 5.0),
        (changed(1, terms=(0.0, 0.0, 1e-12)), F, 5.0),
        (changed(0, opening=5.5), F, 5.0),
        (changed(0, opening=4.0), F, 4.0),
        (replace(SINGLET, unit_mm=25.4), F, 5.0),
        (replace(changed(0, terms=(-3e-6, 5e-9)), unit_mm=10.0), F, 5.0),
        (replace(SINGLET, waves_nm=(940.0,)), thick_lens(50.0, -50.0, 4.0, bk7(0.94)), 5.0),
        (Design((S(0, 12.0, stop=True), S(50.0, 4.0, "N-BK7"), S(-50.0, 47.0))), F, 5.0),
        (Design((S(0, 30.0), S(50.0, 4.0, "N-BK7", stop=True), S(-50.0, 47.0))), F, 5.0),
    ],
)
def test_a_file_gives_the_spots_of_its_numbers(tmp_path, suffix, design, focal, radius):
    lens = found(tmp_path, design, suffix)
    um = design.waves_nm[0] / 1000
    indices = [bk7(um) if one.glass else 1.0 for one in design.surfaces]
    assert lens.conditions.focal_length_mm == pytest.approx(focal, rel=1e-5)
    assert lens.conditions.primary_um == pytest.approx(um)
    for field in ((0.0, 0.0), (0.0, 0.5)):
        expected = rms_um(design.surfaces, indices, radius, direction(lens, field))
        assert rendered_rms_um(lens, field) == pytest.approx(expected, rel=0.01)


def test_the_stop_behind_a_lens_is_as_wide_as_the_light_that_the_pupil_lets_in(tmp_path):
    lens_part = (S(50.0, 4.0, "N-BK7"), S(-50.0, 10.0))
    design = Design((*lens_part, S(0, 37.0, stop=True)), pupil=9.0)
    # The ray at 4.5 mm, traced to the stop with nothing but Snell's law in two dimensions.
    y, z, u = 4.5, 0.0, 0.0
    for one, ratio in zip(lens_part, (1 / N, N), strict=True):
        z0 = one.radius - math.copysign(math.sqrt(one.radius**2 - y**2), one.radius)
        for _ in range(50):
            height = y + (z0 - z) * math.tan(u)
            z0 = one.radius - math.copysign(math.sqrt(one.radius**2 - height**2), one.radius)
        y = y + (z0 - z) * math.tan(u)
        normal = math.asin(y / one.radius)
        u = math.asin(ratio * math.sin(u + normal)) - normal
        z = z0 - one.thickness
    expected = y - z * math.tan(u)
    for suffix in WRITERS:
        lens = found(tmp_path, design, suffix)
        assert json.loads(lens.text)["surfaces"][2]["r"] == pytest.approx(expected, rel=1e-9)
        assert lens.conditions.f_number == pytest.approx(F / 9.0, rel=1e-3)
    narrow = replace(design, surfaces=(*lens_part, S(0, 37.0, stop=True, opening=3.0)))
    lens = found(tmp_path, narrow, ".seq")
    assert json.loads(lens.text)["surfaces"][2]["r"] == 3.0
    assert lens.conditions.f_number is not None
    assert lens.conditions.f_number > F / 8.1


def test_a_wide_stop_lets_in_what_real_rays_say(tmp_path):
    """Strong surfaces in front of the stop: the first-order pupil is far too small."""
    front = (S(40.0, 6.0, "N-BK7", 18.0), S(14.0, 14.0, "", 12.0))
    design = Design((*front, S(0, 2.0, "", 7.0, stop=True), S(30.0, 6.0, "N-BK7", 14.0), S(-30.0, 30.0, "", 14.0)))
    lens = found(tmp_path, replace(design, head={"ENPD": "FLOA"}), ".zmx")
    indices = [N, 1.0, 1.0, N, 1.0]
    heights = np.linspace(0.01, 17.9, 2000)
    passed = [h for h in heights if _passes(design.surfaces, indices, h)]
    focal, f_number = lens.conditions.focal_length_mm, lens.conditions.f_number
    assert focal is not None
    assert f_number == pytest.approx(focal / (2 * passed[-1]), rel=2e-3)


def _passes(surfaces, indices, y: float) -> bool:
    """Whether a ray parallel to the axis gets through spheres' and planes' openings."""
    z, u, before = 0.0, 0.0, 1.0
    for one, behind in zip(surfaces, indices, strict=True):
        at = 0.0
        for _ in range(80):
            height = y + (at - z) * math.tan(u)
            if one.radius and abs(height) >= abs(one.radius):
                return False
            at = one.radius - math.copysign(math.sqrt(one.radius**2 - height**2), one.radius) if one.radius else 0.0
        y = y + (at - z) * math.tan(u)
        if abs(y) > (one.opening or math.inf):
            return False
        normal = math.asin(y / one.radius) if one.radius else 0.0
        sine = before / behind * math.sin(u + normal)
        if abs(sine) > 1:
            return False
        u, before, z = math.asin(sine) - normal, behind, at - one.thickness
    return True


def test_a_finite_object_is_where_the_file_has_it(tmp_path):
    design = Design((S(50.0, 4.0, "N-BK7", stop=True), S(-50.0, 97.0)), object_mm=97.0, image_opening=8.0)
    for suffix in WRITERS:
        lens = found(tmp_path, design, suffix)
        assert lens.conditions.depth_mm == -97.0
        stop = json.loads(lens.text)["surfaces"][0]["r"]
        assert stop == pytest.approx(5.0, rel=1e-6)
        expected = rms_um(design.surfaces, [N, 1.0], stop, 0.0, 97.0)
        assert rendered_rms_um(lens, (0.0, 0.0)) == pytest.approx(expected, rel=0.01)


def test_infinity_is_so_far_that_the_focus_is_within_a_micrometre(tmp_path):
    lens = found(tmp_path, SINGLET, ".zmx")
    assert F**2 / -lens.conditions.depth_mm < 1.0001e-3
    assert json.loads(lens.text)["obj_depth"] == lens.conditions.depth_mm


def test_defocus_of_the_image_moves_the_sensor(tmp_path):
    text = codev(SINGLET).replace("SI 0.0 0.0", "SI 0.0 -0.7")
    lens = find_lens(write(tmp_path, "mine.seq", text))
    assert json.loads(lens.text)["surfaces"][-1]["d_next"] == pytest.approx(46.3)


@pytest.mark.parametrize("suffix", WRITERS)
def test_automatic_openings_clip_no_light(tmp_path, suffix):
    design = Design((S(0, 30.0), S(50.0, 4.0, "N-BK7", stop=True), S(-50.0, 47.0)))
    lens = found(tmp_path, design, suffix)
    surfaces = json.loads(lens.text)["surfaces"]
    corner = math.hypot(*lens.conditions.sensor_mm) / 2 / F
    needed = 5.0 + 30.0 * corner  # from the stop's rim back to the first plane
    assert needed < surfaces[0]["r"] < 1.1 * needed
    assert surfaces[1]["r"] == pytest.approx(5.0, rel=1e-9)
    assert [surface["type"] for surface in surfaces] == ["Plane", "Aperture", "Spheric", "Spheric"]


APERTURES = [
    (".zmx", {"ENPD": f"FNUM {F / 10.0!r} 0"}, 5.0),
    (".zmx", {"ENPD": f"FNUM {F / 10.0!r} 1"}, 5.0),
    (".seq", {"EPD": f"FNO {F / 10.0!r}"}, 5.0),
    (".seq", {"EPD": f"NA {5.0 / F!r}"}, 5.0),
]


@pytest.mark.parametrize(("suffix", "head", "radius"), APERTURES)
def test_an_f_number_or_na_is_a_pupil(tmp_path, suffix, head, radius):
    lens = found(tmp_path, replace(SINGLET, head=head), suffix)
    assert json.loads(lens.text)["surfaces"][0]["r"] == pytest.approx(radius, rel=1e-6)
    assert lens.conditions.f_number == pytest.approx(F / 10.0, rel=1e-3)


def test_object_na_and_working_f_number_at_a_finite_distance(tmp_path):
    design = Design((S(50.0, 4.0, "N-BK7", stop=True), S(-50.0, 97.0)), object_mm=97.0, image_opening=8.0)
    slope = math.tan(math.asin(0.05))
    radius = 97 * slope
    for suffix, head in (
        (".seq", {"EPD": "NAO 0.05"}),
        (".zmx", {"ENPD": "OBNA 0.05 0"}),
        (".zmx", {"ENPD": f"OBNA {math.degrees(math.asin(0.05))!r} 1"}),
    ):
        lens = found(tmp_path, replace(design, head=head), suffix)
        stop = json.loads(lens.text)["surfaces"][0]["r"]
        assert stop == pytest.approx(radius, rel=1e-6)
    # The paraxial image has the slope 1 / (2 F); at magnification m the object's is m times that.
    _, image_slope = _paraxial(97.0, 1.0)
    # CODE V has the sine in object space there, Zemax the tangent.
    share = 1 / (8 * abs(image_slope))
    for suffix, head, expected in (
        (".seq", {"EPD": "FNO 4"}, math.tan(math.asin(share))),
        (".seq", {"EPD": "NA 0.125"}, math.tan(math.asin(share))),
        (".zmx", {"ENPD": "FNUM 4 1"}, share),
    ):
        lens = found(tmp_path, replace(design, head=head), suffix)
        stop = json.loads(lens.text)["surfaces"][0]["r"]
        assert stop == pytest.approx(97 * expected, rel=1e-6)
    too_fast = replace(design, head={"EPD": "NA 1.5"})
    assert "an object NA is below 1" in refused(tmp_path, "fast.seq", codev(too_fast))


def _paraxial(y: float, u: float) -> tuple[float, float]:
    u = (u - y * (N - 1) / 50) / N
    y = y + 4 * u
    return y, N * u - y * (1 - N) / -50


def chief(slope: float) -> float:
    """Where SINGLET's chief ray of that slope meets the sensor, to first order."""
    y, u = _paraxial(0.0, slope)
    return y + 47 * u


CHIEF = chief(math.tan(math.radians(6.0)))


@pytest.mark.parametrize(
    ("design", "suffix", "half", "words"),
    [
        (SINGLET, ".zmx", 6.0, "DIAM"),
        (SINGLET, ".seq", 6.0, "CIR"),
        (replace(SINGLET, image_opening=None), ".zmx", CHIEF, "fields"),
        (replace(SINGLET, image_opening=None), ".seq", CHIEF, "fields"),
        (replace(SINGLET, image_opening=None, head={"FTYP": "FTYP 3 0 3 1 0 0 0"}), ".zmx", 6.0, "fields"),
        (replace(SINGLET, image_opening=None, head={"FTYP": "FTYP 2 0 3 1 0 0 0"}), ".zmx", chief(6 / F), "fields"),
        (replace(SINGLET, image_opening=None, head={"YAN": "XIM 0 3 3\nYIM 0 4 4"}), ".seq", chief(5 / F), "fields"),
        (replace(SINGLET, image_opening=None, head={"YAN": "YRI 0 4.5"}), ".seq", 4.5, "fields"),
        (
            replace(SINGLET, image_opening=None, head={"YFLN": "YFLD 0 4 6", "XFLN": "XFLD 0 0 0"}),
            ".zmx",
            CHIEF,
            "fields",
        ),
        (
            replace(SINGLET, image_opening=None, head={"FTYP": "FTYP 0 0 2 1 0 0 0"}),
            ".zmx",
            chief(math.tan(math.radians(4))),
            "fields",
        ),
    ],
)
def test_the_sensor_is_the_image_surface_or_what_the_fields_cover(tmp_path, design, suffix, half, words):
    conditions = found(tmp_path, design, suffix).conditions
    assert math.hypot(*conditions.sensor_mm) / 2 == pytest.approx(half, rel=3e-3)
    assert conditions.sensor_mm[0] == conditions.sensor_mm[1]
    assert words in conditions.sources["sensor"]
    assert conditions.field_deg == pytest.approx(math.degrees(math.atan(half / F)), rel=3e-3)


def test_object_heights_give_the_sensor_of_a_finite_object(tmp_path):
    design = Design(
        (S(50.0, 4.0, "N-BK7", stop=True), S(-50.0, 97.0)), object_mm=97.0, image_opening=None, fields=(0.0, 3.0, 5.0)
    )
    # The chief ray crosses the front vertex: refracted there, then at 4 mm behind it, at small angles.
    y, u = _paraxial(0.0, 5.0 / 97.0)
    expected = y + 97 * u
    for suffix, head in ((".zmx", {"FTYP": "FTYP 1 0 3 1 0 0 0"}), (".seq", {"YAN": "YOB 0 3 5"})):
        conditions = found(tmp_path, replace(design, head=head), suffix).conditions
        assert math.hypot(*conditions.sensor_mm) / 2 == pytest.approx(expected, rel=5e-3)


def test_an_automatic_image_size_holds_only_if_its_fields_are_the_files(tmp_path):
    def half(diam: float, fields=(0.0, 4.0, 6.0)) -> float:
        text = zemax(replace(SINGLET, image_opening=diam, fields=fields)).replace(
            f"DIAM {diam!r} 1", f"DIAM {diam!r} 0"
        )
        return math.hypot(*find_lens(write(tmp_path, "mine.zmx", text)).conditions.sensor_mm) / 2

    assert half(5.3) == pytest.approx(5.3)
    assert half(1.2 * CHIEF) == pytest.approx(1.2 * CHIEF, rel=1e-3)
    assert half(1.3 * CHIEF) == pytest.approx(CHIEF, rel=1e-3)
    assert half(0.01) == pytest.approx(CHIEF, rel=1e-3)
    with pytest.raises(
        SpaceError, match=r"how large is the sensor\? .*`--sensor WIDTHxHEIGHT`.*`--set data\.sensor_mm=\[W,H\]`"
    ):
        half(0.01, (0.0,))
    oversized = zemax(replace(SINGLET, image_opening=8.0)).replace("DIAM 8.0 1", "DIAM 8.0 0")
    assert "larger than the image of the fields" in find_lens(write(tmp_path, "large.zmx", oversized)).notes[0]


def test_fields_of_90_degrees_and_more_are_not_folded(tmp_path):
    for angle in (90.0, 100.0, 174.0):
        wide = zemax(replace(SINGLET, image_opening=5.3, fields=(0.0, angle)))
        assert find_lens(write(tmp_path, "wide.zmx", wide)).conditions.sensor_mm[0] == pytest.approx(5.3 * math.sqrt(2))
        automatic = wide.replace("DIAM 5.3 1", "DIAM 5.3 0")
        assert "how large is the sensor?" in refused(tmp_path, "wide.zmx", automatic)


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_stop_that_is_narrower_than_the_light_cone_is_noted(tmp_path, suffix):
    narrow = found(tmp_path, changed(0, opening=4.0), suffix)
    assert narrow.notes == (
        "the stop's own opening, 4 mm, narrows the light cone: entrance pupil 10 would make it 5 mm",
    )
    assert found(tmp_path, changed(0, opening=5.0), suffix).notes == ()
    immersed = WRITERS[suffix](changed(1, glass="N-BK7"))
    assert "the sensor is in n-bk7" in refused(tmp_path, f"wet{suffix}", immersed)


def test_a_lens_for_10_um_and_a_file_that_cannot_be_read(tmp_path, monkeypatch):
    germanium = replace(changed(0, glass="GERMANIUM"), waves_nm=(10600.0,), pupil=2.0, fields=(0.0, 1.0))
    assert found(tmp_path, germanium, ".seq").conditions.primary_um == 10.6
    path = write(tmp_path, "mine.zmx", zemax(SINGLET))

    def denied(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(SpaceError, match=r"mine\.zmx: Permission denied"):
        find_lens(path)


def test_a_sensor_that_is_asked_for_wins(tmp_path):
    for suffix in WRITERS:
        lens = found(tmp_path, replace(SINGLET, image_opening=None, fields=(0.0,)), suffix, sensor_mm=(9.0, 6.0))
        assert lens.conditions.sensor_mm == (9.0, 6.0)
        assert json.loads(lens.text)["sensor_res"] == [3000, 2000]
        odd = found(tmp_path, SINGLET, suffix, sensor_mm=(7.1234, 5.3211))
        assert odd.conditions.sensor_mm == pytest.approx((7.1234, 5.3211), rel=1e-6)
        tree = json.loads(odd.text)
        assert tree["sensor_size"][0] * tree["sensor_res"][1] == tree["sensor_size"][1] * tree["sensor_res"][0]
    with pytest.raises(SpaceError, match="above 0"):
        found(tmp_path, SINGLET, ".zmx", sensor_mm=(0.0, 6.0))


@pytest.mark.parametrize(
    ("name", "encode"),
    [
        ("lens.ZMX", lambda text: text.encode()),
        ("lens.Zmx", lambda text: text.encode("utf-8-sig")),
        ("bom.zmx", lambda text: text.encode("utf-16")),
        ("le.zmx", lambda text: text.encode("utf-16-le")),
        ("be.zmx", lambda text: text.encode("utf-16-be")),
        ("latin.zmx", lambda text: text.replace("NAME mine", "NAME f=50 mm, Ø 10 mm, 6°").encode("latin-1")),
        ("windows.zmx", lambda text: text.replace("\n", "\r\n").encode()),
        ("mac.zmx", lambda text: text.replace("\n", "\r").encode()),
    ],
)
def test_encodings_and_suffixes(tmp_path, name, encode):
    lens = find_lens(write(tmp_path, name, encode(zemax(SINGLET))))
    assert lens.conditions == found(tmp_path, SINGLET, ".zmx").conditions
    assert lens.name == name.split(".")[0]


def test_case_and_layout_of_codev_do_not_matter(tmp_path):
    plain = found(tmp_path, changed(0, conic=-1.0, terms=(1e-6, 1e-9)), ".seq")
    text = codev(changed(0, conic=-1.0, terms=(1e-6, 1e-9)))
    variants = [
        text.lower().replace("'mine'", "mine"),
        text.replace("YAN 0.0 4.0 6.0", "YAN 0.0 & ! the axis; not 3\n   4.0 &\n 6.0 ! the edge"),
        text.replace("  K -1.0\n  A 1e-06\n  B 1e-09\n", "  K -1.D0; A 0.1D-05; B&\n   1e-9\n"),
        text.replace("SO 0.0", "S0 0.0").replace("S 50.0", "S1 50.0").replace("S -50.0", "S2 -50.0"),
        text.replace("S 50.0", "S 45.0") + "RDY S1 50\n",
        text.replace("S 50.0", "S 45.0") + "CUY S1 0.02\n",
        text.replace("S 50.0 4.0 N-BK7", "S 50.0 3.0") + "THI S1 4.0\nGLA S1..1 N-BK7\n",
        text.replace("  STO\n", "").replace("SI 0.0", "STO S1\nSI 0.0"),
        text.replace("  K -1.0\n", "") + "K S1 -1\n",
        text.replace("RDM;", "RDM N;").replace("S 50.0", "S 0.02").replace("S -50.0", "S -0.02"),
        text.replace("N-BK7", "NBK7_SCHOTT"),
        text.replace("N-BK7", "'n-bk7'"),
        text + "ADE S1 0.0; BDE S1 0\nXDE 0\nCUF S1 0\nADX S1 0\n",
        text.replace("GO", "CLS RED; CUM 0; THM 0; CCF 1; HCC 1; IC YES; MLT 1; COA x; TRX 1; TRY 1; TRR 1\nGO"),
        *[text.replace("SI 0.0", f"{ca}\nSI 0.0") for ca in ("CA", "CA YES", "CA APE")],
        text + "\x1a",
        text.replace("SI 0.0 0.0", 'CIR EDG 8.0; CCY 0; THC 100; SLB "first lens"\nSI 0.0 0.0'),
    ]
    for variant in variants:
        lens = find_lens(write(tmp_path, "variant.seq", variant))
        assert json.loads(lens.text)["surfaces"] == json.loads(plain.text)["surfaces"], variant
        assert lens.conditions == plain.conditions, variant


def test_order_and_absence_of_lines_in_zemax_do_not_matter(tmp_path):
    plain = found(tmp_path, changed(0, conic=-1.0), ".zmx")
    text = zemax(changed(0, conic=-1.0))
    harmless = (
        "  LUID 1\n  SSID 1\n  IWDP 1\n  FCOM x\n"
        '  COMM front\n  FIMP \n\n  HIDE 0 0 0 0 0\n  MIRR 2 0\n  SLAB 3\n  POPS 0 0\n  MEMA 9 1 0 0 1 ""\n  FLAP 0 3 0\n'
        "  PZUP 1 1.0 0.0\n  OBDC 0 0\n  PARM 1 0\n"
    )
    variants = [
        text.replace("  TYPE STANDARD\n", ""),
        text.replace("  STOP\n", "").replace("  CONI -1.0\n", "  CONI -1.0\n  STOP\n"),
        text.replace("  CONI -1.0\n", f"  CONI -1.0\n{harmless}"),
        text.replace("  DISZ 47.0", "  DISZ 47.0\n  MAZH 0 0"),
        text
        + 'EFFL 0 1 0 0 0 0 50.0 1.0 0 0\nDMFS 0 0 0 0 0 0 0 0 0 0\nTOL TOFF 0 0 0\nMNUM 1 1\nMOFF 0 1 "" 0 0 0 1 1\n',
        text.replace("N-BK7 0 0 1.5 40", "n-bk7 0 0 1.5168 64.17"),
        text.replace("ENPD", "SDMA 0 1 0\nENPD"),
        text.replace("SURF 0", "WAVM 2 0.55 1").replace("WAVM 2 0.55 1", "SURF 0"),
    ]
    for variant in variants:
        lens = find_lens(write(tmp_path, "variant.zmx", variant))
        assert json.loads(lens.text)["surfaces"] == json.loads(plain.text)["surfaces"], variant
        assert lens.conditions == plain.conditions, variant


def test_wavelengths_in_use(tmp_path):
    waves = (486.1327, 587.5618, 656.2725)
    three = replace(SINGLET, waves_nm=waves, primary=2)
    expected = (0.6562725, 0.5875618, 0.4861327)
    padded = "".join(f"WAVM {i} 0.55 1\n" for i in range(4, 25))
    text = zemax(three)
    variants = {
        "a.zmx": text,
        "padded.zmx": text.replace("PWAV", f"{padded}PWAV"),
        "list.zmx": text.replace("WAVM 1", "WAVL 0.4861327 0.5875618 0.6562725\nWWGT 1 1 1\nNOTE WAVM 1")
        .replace("WAVM 2", "NOTE").replace("WAVM 3", "NOTE"),
        "unused.zmx": text.replace("PWAV", "WAVM 4 0.55 0\nPWAV"),
        "a.seq": codev(three),
    }  # fmt: skip
    for name, variant in variants.items():
        conditions = find_lens(write(tmp_path, name, variant)).conditions
        assert conditions.wavelengths_um == pytest.approx(expected, abs=1e-12), name
        assert conditions.primary_um == pytest.approx(0.5875618, abs=1e-12), name
    tree = json.loads(find_lens(write(tmp_path, "a.zmx", text)).text)
    assert tree["wvln_rgb"] == pytest.approx(expected)
    weighted = find_lens(write(tmp_path, "w.seq", codev(replace(three, head={"WTW": "WTW 1 2 1"}))))
    assert any("weights" in note for note in weighted.notes)
    twice = text.replace("WAVM 1", "WAVL 0.5\nWAVM 1")
    assert "twice" in refused(tmp_path, "twice.zmx", twice)
    assert "primary" in refused(tmp_path, "primary.zmx", text.replace("PWAV 2\n", ""))
    assert "number 5" in refused(tmp_path, "primary.zmx", text.replace("PWAV 2", "PWAV 5"))
    assert "known from" in refused(tmp_path, "far.zmx", text.replace("0.4861327", "3.5"))


THIRD = "MNUM 3 2\nTHIC 2 1 40.0 0 0 0 1 1\nTHIC 2 2 47.0 0 0 0 1 1\nTHIC 2 3 50.0 0 0 0 1 1\n"


def test_configurations(tmp_path):
    path = write(tmp_path, "zoom.zmx", zemax(replace(SINGLET, tail=THIRD.replace("\n", ";"))))
    first, third = find_lens(path), find_lens(path, configuration=3)
    assert json.loads(first.text)["surfaces"][-1]["d_next"] == 40.0
    assert json.loads(third.text)["surfaces"][-1]["d_next"] == 50.0
    assert first.notes == ("the first of 3 configurations is taken",)
    assert third.notes == ()
    assert first.configurations == third.configurations == 3
    assert first.digest != third.digest
    assert first.sha256 == third.sha256
    with pytest.raises(SpaceError, match="configuration 4: the file has 3"):
        find_lens(path, configuration=4)
    zoom = "ZOO 2|ZOO THI S2 40.0 50.0|ZOO THC S2 100 100|ZOO TIT|ZOO EPD 8.0 9.0|ZOO GLA S1 N-BK7 SF11"
    path = write(tmp_path, "zoom.seq", codev(replace(SINGLET, tail=zoom)))
    second = find_lens(path, configuration=2)
    front, back = lens_surfaces(second)
    assert (front["mat2"], back["d_next"]) == ("sf11", 50.0)
    assert stop_radius(second) == pytest.approx(4.5, rel=1e-6)
    assert find_lens(path).notes == ("the first of 2 configurations is taken",)
    with pytest.raises(SpaceError, match="configuration 2: the file has 1"):
        find_lens("cooke_triplet_50mm", configuration=2)


@pytest.mark.parametrize(
    ("operand", "check"),
    [
        ("CRVT 1 {} {}", lambda lens: lens_surfaces(lens)[0]["c"]),
        ("CONN 1 {} {}", lambda lens: lens_surfaces(lens)[0].get("k", 0.0)),
        ("SDIA 2 {} {}", lambda lens: lens_surfaces(lens)[1]["r"]),
        ("APER 0 {} {}", lambda lens: 2 * stop_radius(lens)),
    ],
)
def test_operands_of_configurations(tmp_path, operand, check):
    design = changed(1, opening=6.0)
    saved = {"CRVT": 0.02, "CONN": 0.0, "SDIA": 6.0, "APER": 10.0}[operand[:4]]
    other = {"CRVT": 0.021, "CONN": -1.0, "SDIA": 5.5, "APER": 8.0}[operand[:4]]
    tail = ";".join(["MNUM 2 1", operand.format(1, saved), operand.format(2, other)])
    path = write(tmp_path, "two.zmx", zemax(replace(design, tail=tail)))
    assert check(find_lens(path, configuration=1)) == pytest.approx(saved, rel=1e-6)
    assert check(find_lens(path, configuration=2)) == pytest.approx(other, rel=1e-6)


SOLVED = {
    "thickness": ("  DISZ 47.0", "  DISZ 47.0\n  MAZH 0 0", "THIC 2 {} 46.0"),
    "curvature": ("  CURV 0.02 0", "  CURV 0.02 2", "CRVT 1 {} 0.02"),
    "conic": ("  DISZ 47.0", "  DISZ 47.0\n  PKUP 1 1 0", "CONN 2 {} 0"),
    "parameter": ("  DISZ 47.0", "  DISZ 47.0\n  PPAR 1 1 0", ""),
    "glass": ("GLAS N-BK7 0", "GLAS N-BK7 2", ""),
}


@pytest.mark.parametrize("case", SOLVED)
def test_what_is_solved_again_in_a_configuration_is_refused(tmp_path, case):
    before, after, operand = SOLVED[case]
    text = zemax(replace(SINGLET, tail="MNUM 2 1;APER 0 1 10;APER 0 2 9"))
    assert before in text
    path = write(tmp_path, "two.zmx", text.replace(before, after, 1))
    find_lens(path, configuration=1)
    with pytest.raises(SpaceError, match="is solved again in configuration 2, which is not followed"):
        find_lens(path, configuration=2)
    if operand:
        own = text.replace(before, after, 1) + "\n".join(operand.format(i) for i in (1, 2)) + "\n"
        find_lens(write(tmp_path, "own.zmx", own), configuration=2)


def test_automatic_sizes_are_of_the_configuration_that_was_saved(tmp_path):
    text = zemax(replace(SINGLET, image_opening=5.3, tail="MNUM 2 1;PRWV 0 1 1;PRWV 0 2 1;CWGT 0 1 1"))
    path = write(tmp_path, "two.zmx", text.replace("DIAM 5.3 1", "DIAM 5.3 0"))
    sizes = [math.hypot(*find_lens(path, configuration=i).conditions.sensor_mm) / 2 for i in (1, 2)]
    assert sizes == pytest.approx([5.3, CHIEF], rel=1e-3)
    floating = write(tmp_path, "float.zmx", text.replace("ENPD 10.0", "FLOA"))
    assert stop_radius(find_lens(floating, configuration=1)) == 3.0
    with pytest.raises(SpaceError, match="computed again in configuration 2"):
        find_lens(floating, configuration=2)
    set_by_hand = write(tmp_path, "hand.zmx", Path(floating).read_text() + "SDIA 1 1 3\nSDIA 1 2 4\n")
    assert stop_radius(find_lens(set_by_hand, configuration=2)) == 4.0


def test_a_cone_angle_of_a_configuration_is_an_angle(tmp_path):
    design = Design((S(50.0, 4.0, "N-BK7", stop=True), S(-50.0, 97.0)), object_mm=97.0, image_opening=8.0)
    angles = replace(design, head={"ENPD": "OBNA 2.0 1"}, tail="MNUM 2 1;APER 0 1 2.0;APER 0 2 3.0")
    path = write(tmp_path, "two.zmx", zemax(angles))
    assert stop_radius(find_lens(path, configuration=2)) == pytest.approx(97 * math.tan(math.radians(3)), rel=1e-6)


def openings(lens: LensFile) -> list[float]:
    """Semi-diameters of the lens' surfaces, the stop's included."""
    return [float(surface["r"]) for surface in json.loads(lens.text)["surfaces"]]


def test_which_diam_clips_in_zemax(tmp_path):
    design = Design((S(0, 5.0, lines="DIAM 5.2 1"), S(50.0, 4.0, "N-BK7", stop=True), S(-50.0, 47.0)))

    def first(line: str) -> float:
        return openings(find_lens(write(tmp_path, "mine.zmx", text.replace("DIAM 5.2 1", line))))[0]

    text = zemax(design).replace('  DIAM 3.0 0 0 0 1 ""\n  DIAM 5.2 1', "  DIAM 5.2 1")
    assert first("DIAM 5.2 1") > 5.3  # a plane in air does not clip
    assert first("DIAM 5.2 1\n  FLAP 0 5.2 0") == 5.2
    assert first("CLAP 0 5.2") == 5.2
    picked = zemax(SINGLET).replace("DIAM 3.0 0", "DIAM 3.0 2", 1)
    lens = find_lens(write(tmp_path, "mine.zmx", picked))
    assert stop_radius(lens) == pytest.approx(5.0)
    assert "picked up" in lens.notes[0]


def test_a_floating_stop_is_its_diam_and_an_aperture_on_it_only_clips(tmp_path):
    for diam, clear, radius in ((4.0, 4.5, 4.0), (4.0, 3.5, 3.5)):
        text = zemax(replace(SINGLET, head={"ENPD": "FLOA"})).replace("DIAM 3.0 0", f"DIAM {diam} 1", 1)
        text = text.replace("SURF 2", f"  CLAP 0 {clear}\nSURF 2")
        assert stop_radius(find_lens(write(tmp_path, "mine.zmx", text))) == radius


@pytest.mark.parametrize(
    ("solve", "own"),
    [("PIK THI S2 S1", ""), ("THI S2 UMY", "ZOO THI S2 47 46"), ("PIK RDY S2 S1", "ZOO CUY S2 -0.02 -0.021")],
)
def test_what_is_solved_again_at_a_zoom_position_is_refused(tmp_path, solve, own):
    zoom = replace(SINGLET, tail=f"{solve}|ZOO 2|ZOO EPD 8 9")
    path = write(tmp_path, "zoom.seq", codev(zoom))
    find_lens(path, configuration=1)
    with pytest.raises(SpaceError, match="is solved again in position 2, which is not followed"):
        find_lens(path, configuration=2)
    if own:
        find_lens(write(tmp_path, "own.seq", codev(replace(zoom, tail=f"{zoom.tail}|{own}"))), configuration=2)


def test_commands_behind_a_title_count(tmp_path):
    for title in ("TIT 'x'; DIM I", "TIT 'a; b' ; DIM I; WTF 1"):
        text = codev(replace(SINGLET, head={"TITLE": "", "DIM": title}, fields=(0.0, 0.2)))
        plain = codev(replace(SINGLET, head={"TITLE": "", "DIM": "DIM I"}, fields=(0.0, 0.2)))
        assert (
            find_lens(write(tmp_path, "a.seq", text)).conditions
            == find_lens(write(tmp_path, "b.seq", plain)).conditions
        )


def test_circles_with_words_and_labels(tmp_path):
    for circle, expected in (
        ("CIR CLR 4", 4.0),
        ("CIR L'A' 4", 4.0),
        ("CIR S1 CLR L'A' 4", 4.0),
        ("CIR EDG L'A' 4", 5.0),
        ("CIR L'A' 4;CIR L'A' 4.5", 4.5),
    ):
        lens = found(tmp_path, changed(0, lines=circle), ".seq")
        assert min(lens_surfaces(lens)[0]["r"], 5.0) == expected
    for circle, why in (
        ("CIR L'A' 4;CIR L'B' 3", "another label"),
        ("CIR L'A' OBS 1", "obscuration"),
        ("CIR XYZ 4", "CLR"),
    ):
        assert why in refused(tmp_path, "mine.seq", codev(changed(0, lines=circle)))


def test_solves_keep_what_is_written(tmp_path):
    image = -_paraxial(1.0, 0.0)[0] / _paraxial(1.0, 0.0)[1]
    focused = codev(changed(1, thickness=image)).replace("SI 0.0 0.0", "PIM\nSI 0.0 0.1")
    assert found(tmp_path, SINGLET, ".seq").notes == ()
    lens = find_lens(write(tmp_path, "mine.seq", focused))
    assert json.loads(lens.text)["surfaces"][-1]["d_next"] == pytest.approx(image + 0.1)
    solved = codev(SINGLET).replace("SI 0.0", "CUY UMY -0.1\nSI 0.0")
    assert "written value is used" in find_lens(write(tmp_path, "mine.seq", solved)).notes[0]


def test_notes_on_what_is_left_out(tmp_path):
    vignetted = zemax(SINGLET).replace("SURF 0", "VCYN 0 0.1 0.2\nENVD 40 1 1\nSURF 0")
    notes = find_lens(write(tmp_path, "mine.zmx", vignetted)).notes
    assert [word for word in ("vignetting", "40 degrees") if not any(word in note for note in notes)] == []
    vignetted = codev(SINGLET).replace("SO 0.0", "VUY 0 0.1 0.2\nTEM 40\nSO 0.0")
    notes = find_lens(write(tmp_path, "mine.seq", vignetted)).notes
    assert [word for word in ("vignetting", "TEM") if not any(word in note for note in notes)] == []


def test_a_zero_coordinate_break_is_a_distance_in_the_glass_before_it(tmp_path):
    text = zemax(Design((S(50.0, 1.0, "N-BK7", stop=True), S(0, 3.0), S(-50.0, 47.0))))
    text = text.replace("SURF 2\n  TYPE STANDARD", "SURF 2\n  TYPE COORDBRK\n  PARM 1 0\n  PARM 3 0.0\n  PARM 6 1")
    lens = find_lens(write(tmp_path, "mine.zmx", text))
    assert lens.conditions.focal_length_mm == pytest.approx(F, rel=1e-5)


def test_a_negative_distance_goes_back(tmp_path):
    there = Design((S(0, 10.0), S(0, -10.0), S(50.0, 4.0, "N-BK7", stop=True), S(-50.0, 47.0)))
    plain = found(tmp_path, SINGLET, ".zmx")
    lens = found(tmp_path, there, ".zmx")
    assert lens.conditions.focal_length_mm == pytest.approx(F, rel=1e-5)
    assert rendered_rms_um(lens, (0.0, 0.5)) == pytest.approx(rendered_rms_um(plain, (0.0, 0.5)), rel=0.01)


def test_the_second_power_of_an_even_asphere(tmp_path):
    text = zemax(SINGLET).replace("TYPE STANDARD\n  CURV 0.02", "TYPE EVENASPH\n  PARM 1 0.001\n  CURV 0.018")
    lens = find_lens(write(tmp_path, "mine.zmx", text))
    assert lens.conditions.focal_length_mm == pytest.approx(F, rel=1e-6)
    assert lens_surfaces(lens)[0]["ai"] == [0.001]
    assert rendered_rms_um(lens, (0.0, 0.0)) > 0


def test_the_json_that_is_written_reads_as_the_same_lens(tmp_path):
    zoomed = replace(SINGLET, waves_nm=(486.1, 550.0, 587.6, 656.3), primary=3)
    for suffix in WRITERS:
        lens = found(tmp_path, zoomed, suffix)
        again = find_lens(write(tmp_path, "again.json", lens.text))
        assert again.text == lens.text
        assert again.digest == lens.digest
        assert replace(again.conditions, sources={}, f_number=None) == replace(
            lens.conditions, sources={}, f_number=None
        )
        assert again.conditions.f_number == pytest.approx(lens.conditions.f_number, rel=1e-6)
