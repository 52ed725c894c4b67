"""Units: tolerances drawn, elements moved as rigid bodies, sensors tilted and focused."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import truncnorm

from deeplens_workers.kernels import Tracing, Units
from deeplens_workers.lens_file import LENSES, find_lens
from deeplens_workers.lens_files.deeplens_json import curvature
from deeplens_workers.raytrace import RayTracer
from deeplens_workers.render import KernelRenderer
from deeplens_workers.tolerances import Tolerances, draw
from deeplens_workers.units import Manufacture, rotation
from spaces.errors import SpaceError
from spaces.errors import check as checked
from tests.deeplens_workers.conftest import at_depth, rel_l2
from tests.deeplens_workers.lens_writers import SINGLET, changed, write
from tests.deeplens_workers.reading import WRITERS, N, found, thick_lens

RAYS = json.loads((Path(__file__).parent / "data" / "as_built_rays.json").read_text())
OBJECTS, PUPIL = np.array(RAYS["objects"]), np.array(RAYS["pupil"])
# Deviations of the cases, by their names.
CASES = {
    "nominal": {},
    "decentre": {"element 2 decentre_x_um": 50, "element 2 decentre_y_um": -20},
    "tilt": {"element 2 tilt_x_arcmin": 12, "element 2 tilt_y_arcmin": 6},
    "thickness": {"surface 1 thickness_um": 50},
    "sensor_tilt": {"sensor tilt_x_arcmin": 30, "sensor tilt_y_arcmin": 18},
}


def manufacture(lens="cooke_triplet_50mm", **tolerances):
    return Manufacture(find_lens(lens), Tolerances(**tolerances))


def values(made, deviations):
    """In standard deviations."""
    assert deviations.keys() <= {str(one) for one in made.deviations}
    return [deviations.get(str(one), 0.0) / one.sigma for one in made.deviations]


def built(deviations, lens="cooke_triplet_50mm", pitch_um=6.4, **tolerances):
    made = manufacture(lens, **tolerances)
    tracer = RayTracer(find_lens(lens), pitch_um)
    tracer.build(made.unit(values(made, deviations)), -10000.0)
    return tracer


@pytest.mark.parametrize("case", CASES)
def test_rays_land_where_an_independent_tracer_has_them(case):
    tracer = built(CASES[case], compensator="none")
    plane, _ = tracer.pupil(OBJECTS)
    share = ((plane - OBJECTS[:, 2]) / -OBJECTS[:, 2])[:, None, None]
    aimed = OBJECTS[:, None, :2] + share * (PUPIL - OBJECTS[:, None, :2])
    waves = np.full(3, 0.587)
    hits = tracer.beyond_apertures(OBJECTS, aimed, waves).hits
    np.testing.assert_allclose(-hits, RAYS["cases"][case], atol=2e-5)  # float32
    from_middle = tracer.paths(OBJECTS, aimed, waves, -1.0)[:, -1] - [0, 0, tracer.length_mm]
    turn = rotation(*(np.radians(CASES[case].get(f"sensor tilt_{axis}_arcmin", 0) / 60) for axis in "xy"))
    exact = from_middle @ turn[:, :2]
    known = np.isfinite(exact)
    assert known.any(axis=1).all()
    np.testing.assert_allclose(exact[known], np.array(RAYS["cases"][case])[known], atol=1e-8)
    np.testing.assert_allclose(from_middle[known.all(axis=-1)] @ turn[:, 2], 0, atol=1e-12)


def test_a_unit_without_deviations_is_the_design_focused():
    tracer = built({})
    assert tracer.symmetric
    assert tracer.length_mm == pytest.approx(60.4487, abs=1e-3)  # where the spot on the axis is smallest


@pytest.mark.parametrize("suffix", WRITERS)
def test_radii_of_a_lens_from_another_program_are_off_too(tmp_path, suffix):
    """Its focal length changes by the lensmaker's equation, and with it the place of its focus."""
    lens = found(tmp_path, SINGLET, suffix)
    made = Manufacture(lens, Tolerances())
    radii = [one for one in made.deviations if one.name == "radius_percent"]
    assert len(radii) == 2
    longer = made.unit(values(made, {str(one): 2.0 for one in radii}))
    bends = [[curvature(surface) for surface in one if curvature(surface)] for one in (longer.surfaces, made.design)]
    np.testing.assert_allclose(np.divide(bends[0], bends[1]), 1 / 1.02)
    tracer, lengths = RayTracer(lens, 6.4), []
    for unit in (longer, made.unit(np.zeros(len(made.deviations)))):
        tracer.build(unit, -1e6)
        lengths.append(tracer.length_mm)
    wanted = thick_lens(51.0, -51.0, 4.0, N) - thick_lens(50.0, -50.0, 4.0, N)
    assert lengths[0] - lengths[1] == pytest.approx(wanted, rel=0.02)


def test_a_lens_is_the_same_however_its_file_has_it(tmp_path):
    """Radii or curvatures, air by any name, a stop or an aperture, a plane's older opening."""
    first = json.loads((LENSES / "cooke_triplet_50mm.json").read_text())
    first["surfaces"].append({"type": "Plane", "r": 12.0, "d_next": 1.0, "mat2": "air"})
    other = json.loads(json.dumps(first))
    for surface in other["surfaces"]:
        if surface.get("roc"):
            surface["c"] = 1 / surface.pop("roc")
        surface["type"] = {"Aperture": "Stop"}.get(surface["type"], surface["type"])
        surface["mat2"] = {"air": "AIR"}.get(surface.get("mat2"), surface.get("mat2"))
    other["surfaces"][-1]["l"] = other["surfaces"][-1].pop("r")
    lenses = [find_lens(write(tmp_path, f"{i}.json", json.dumps(one))) for i, one in enumerate((first, other))]
    assert lenses[0].glasses == lenses[1].glasses
    made = [Manufacture(lens, Tolerances()) for lens in lenses]
    assert made[0].deviations == made[1].deviations
    drawn = draw(made[0].tolerances, 1, 0, "test", len(made[0].deviations))[0]
    hits = []
    for lens, one in zip(lenses, made, strict=True):
        tracer = RayTracer(lens, 6.4)
        tracer.build(one.unit(drawn), -10000.0)
        hits.append(tracer.hits(OBJECTS, PUPIL[None].repeat(len(OBJECTS), 0), np.full(len(OBJECTS), 0.587))[0])
    np.testing.assert_allclose(hits[0], hits[1], atol=2e-5)


def test_a_glass_that_is_not_known_at_the_d_line_has_no_index_there(tmp_path):
    surfaces = [
        {"type": "Spheric", "roc": 300.0, "r": 10.0, "d_next": 4.0, "mat2": "germanium", "is_aperture": True},
        {"type": "Spheric", "roc": 600.0, "r": 12.0, "d_next": 190.0, "mat2": "air"},
    ]
    tree = {"surfaces": surfaces, "r_sensor": 8.0, "primary_wvln": 10.0, "wvln_rgb": [12.0, 10.0, 8.0]}
    lens = find_lens(write(tmp_path, "infrared.json", json.dumps(tree)))
    with pytest.raises(ValueError, match=r"tolerances\.index: .* germanium"):
        Manufacture(lens, Tolerances())
    made = Manufacture(lens, Tolerances(index=0, abbe_percent=0))
    tracer = RayTracer(lens, 12.0)
    tracer.build(made.unit(np.ones(len(made.deviations))), -1e7)
    assert 190 < tracer.length_mm < 210


def test_a_surface_without_a_radius_has_no_tolerance_of_it(tmp_path):
    """A plane, and an asphere whose curvature is zero."""
    flat = changed(0, radius=0.0)
    asphere = changed(0, radius=0.0, terms=(1e-6,))
    for design in (flat, asphere):
        made = Manufacture(found(tmp_path, design, ".zmx"), Tolerances())
        assert [one.number for one in made.deviations if one.name == "radius_percent"] == [len(made.design)]


@pytest.mark.parametrize(("axis", "direction"), [("x", (0, 1)), ("y", (-1, 0))])
def test_a_wedge_bends_light_as_a_prism_does(tmp_path, axis, direction):
    """The ray on the axis meets the second vertex of a singlet, whose normal is turned, and is refracted by Snell's law."""
    lens = found(tmp_path, SINGLET, ".zmx")
    made = Manufacture(lens, Tolerances(elements={1: {"wedge_arcmin": 1}}, compensator="none"))
    tracing = Tracing(channels=(((lens.conditions.primary_um, 1.0),),), trace_px=64, kernel_px=64, rays=64)
    back = [number for number, surface in enumerate(made.design, start=1) if curvature(surface)][-1]
    units = Units(made.tolerances, np.array([values(made, {f"surface {back} wedge_{axis}_arcmin": 6})]), -1e6)
    tracer = RayTracer(lens, 6.4)
    offset = KernelRenderer(tracer, lens).render_units(at_depth([(0.0, 0.0)], -1e6), tracing, units).chief_ray_offset_px
    angle = np.radians(6 / 60)
    aside = made.design[-1]["d_next"] * np.tan(np.arcsin(N * np.sin(angle)) - angle)
    np.testing.assert_allclose(offset[0] * tracer.pixel_mm, -aside * np.array(direction), atol=2e-6)


def test_every_surface_of_a_cemented_element_but_its_first_has_a_wedge():
    made = manufacture("double_gauss_100mm", wedge_arcmin=1)
    turned = {one.number for one in made.deviations if one.name == "wedge_x_arcmin"}
    lenses = [surface for surface in made.design if surface.get("mat2", "air") != "air"]
    assert len(turned) == len(lenses) == 6


def rms_on_axis(deviations, **tolerances):
    lens, made = find_lens("cooke_triplet_50mm"), manufacture(**tolerances)
    tracing = Tracing(channels=(((0.587, 1.0),),), trace_px=32, kernel_px=32, rays=4096)
    units = Units(made.tolerances, np.array([values(made, deviations)]), -10000.0)
    axis = np.array([[0.0, 0.0, -10000.0]], np.float32)
    return float(KernelRenderer(RayTracer(lens, 6.4), lens).render_units(axis, tracing, units).rms_radius_px[0, 0])


def test_the_compensator_leaves_the_least_spot_and_its_residual_is_added():
    bent = {"surface 6 radius_percent": 0.5}
    assert rms_on_axis(bent) < min(rms_on_axis(bent | {"sensor focus_um": um}) for um in (-40, 40))
    assert rms_on_axis(bent) < rms_on_axis(bent, compensator="none")
    moved = built(bent | {"sensor focus_um": 40})
    assert moved.length_mm - built(bent).length_mm == pytest.approx(0.04, abs=1e-6)
    assert abs(built({}, compensator="field").length_mm - built({}).length_mm) > 0.005  # the triplet's field is curved


def mapped_and_single(lens, unit, points, px, rays):
    """Kernels of a unit from pupil maps, and with every ray traced."""
    made, file = manufacture(lens), find_lens(lens)
    units = Units(made.tolerances, np.array([unit(made)]), -20000.0)
    tracing = Tracing((((0.587, 1.0),),), px, px, rays, pixel_filter="triangle")
    tracer = RayTracer(file, 6.4)
    return [
        KernelRenderer(tracer, file, maps=maps).render_units(at_depth(points, -20000.0), tracing, units)
        for maps in (True, False)
    ]


@pytest.mark.parametrize("lens", ["cooke_triplet_50mm", "double_gauss_100mm"])
def test_mapped_kernels_of_a_unit_agree_with_single_rays(lens):
    points = np.random.default_rng(0).uniform(-1, 1, (8, 2))
    mapped, single = mapped_and_single(
        lens, lambda made: draw(made.tolerances, 1, 3, "test", len(made.deviations))[0], points, 48, 8192
    )
    assert rel_l2(mapped.kernels, single.kernels).mean() < 2e-3
    np.testing.assert_allclose(mapped.chief_ray_offset_px, single.chief_ray_offset_px, atol=1e-3)


@pytest.mark.parametrize(
    ("lens", "element", "axes", "corner"),
    [("cooke_triplet_50mm", 3, "xy", (0.9, 0.9)), ("double_gauss_100mm", 2, "x", (-0.9, 0.9))],
)
def test_an_element_far_off_the_axis_has_its_opening_about_its_own(lens, element, axes, corner):
    """Light that its rim stops: about the lens' axis these kernels would be off by 0.04 and 0.03."""
    off = {f"element {element} decentre_{axis}_um": 300 for axis in axes}
    mapped, single = mapped_and_single(lens, lambda made: values(made, off), [corner], 64, 16384)
    assert rel_l2(mapped.kernels, single.kernels).max() < 3e-3


def test_the_design_is_rendered_as_before_after_a_unit():
    file, made = find_lens("cooke_triplet_50mm"), manufacture()
    renderer = KernelRenderer(RayTracer(file, 6.4), file)
    points = np.array([[0.3, 0.4, -10000.0]], np.float32)
    tracing = Tracing(channels=(((0.587, 1.0),),), trace_px=32, kernel_px=32, rays=256)
    before = renderer.render(points, tracing).kernels
    unit = Units(made.tolerances, np.ones((1, len(made.deviations))), -10000.0)
    assert not np.array_equal(renderer.render_units(points, tracing, unit).kernels, before)
    np.testing.assert_array_equal(renderer.render(points, tracing).kernels, before)


def test_units_are_drawn_by_seed_set_and_number_alone():
    made = manufacture()
    some, more = (draw(made.tolerances, count, 0, "train", 33) for count in (3, 5))
    np.testing.assert_array_equal(some, more[:3])
    assert not np.array_equal(some, draw(made.tolerances, 3, 0, "test", 33))


@pytest.mark.parametrize(
    ("distribution", "spread", "bound"),
    [("normal", 1, np.inf), ("uniform", 1, np.sqrt(3)), ("bounded", truncnorm(-2, 2).std(), 2)],
)
def test_every_distribution_has_its_standard_deviation_and_bound(distribution, spread, bound):
    drawn = draw(Tolerances(distribution=distribution), 200, 0, "train", 33)
    assert drawn.std() == pytest.approx(spread, abs=0.02)
    assert np.abs(drawn).max() <= bound


def test_cemented_lenses_are_one_element_and_overrides_are_of_parts():
    made = manufacture("double_gauss_100mm", elements={1: {"decentre_um": 0}}, surfaces={1: {"radius_percent": 7}})
    names = [str(one) for one in made.deviations]
    assert "element 1 decentre_x_um" not in names
    assert "element 1 tilt_x_arcmin" in names
    assert next(one.sigma for one in made.deviations if str(one) == "surface 1 radius_percent") == 7
    assert (
        max(one.number for one in made.deviations if one.part == "element") == 4
    )  # two of its six lenses are cemented to others


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"grade": "sloppy"}, "grade: input should be"),
        ({"decentre_um": -1}, "decentre_um: input should be"),
        ({"decenter_um": 1}, "decenter_um"),
    ],
)
def test_a_mistake_names_its_key(section, words):
    with pytest.raises(SpaceError, match=words):
        checked(Tolerances, section, where="tolerances")


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"elements": {4: {}}}, "elements 1 to 3, but got 4"),
        ({"surfaces": {0: {}}}, "surfaces 1 to 7, but got 0"),
        ({"surfaces": {2: {"thickness_um": 1}}}, "surfaces.2: .* radius_percent, space_um, but got thickness_um"),
        ({"surfaces": {1: {"space_um": 0}}}, "surfaces.1: .* index, abbe_percent, but got space_um"),
        ({"surfaces": {7: {"space_um": 1}}}, "surfaces.7: .* has radius_percent, but got space_um"),
        ({"surfaces": {5: {"radius_percent": 1}}}, "surfaces.5: .* has space_um, but got radius_percent"),
        ({"decentre_um": 3200}, "element 1 decentre_x_um .* comes to 9600 .normal., .* less than 9500"),
        ({"elements": {2: {"decentre_um": 2000}}}, "element 2 decentre_x_um .* less than 5000"),
        ({"tilt_arcmin": 601}, "element 1 tilt_x_arcmin .* less than 1800"),
        ({"sensor_tilt_arcmin": 601}, "sensor tilt_x_arcmin .* less than 1800"),
        (
            {"radius_percent": 50, "distribution": "bounded"},
            "radius_percent .* comes to 100 .bounded., .* less than 100",
        ),
        ({"thickness_um": 400}, "surface 3 thickness_um .* less than 1000"),
        ({"space_um": 1e5}, "space_um .* less than 6.018e.04"),
        ({"index": 0.2}, "surface 1 index .* less than 0.3"),
    ],
)
def test_parts_that_the_lens_has_not_are_refused(section, words):
    with pytest.raises(ValueError, match=words):
        manufacture(**section)
