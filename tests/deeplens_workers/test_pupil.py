"""No light is missed: against rays through all of the first surface, a closed form, and an independent tracer's figure."""

import json

import numpy as np
import pytest

from deeplens_workers.lens_file import available, find_lens
from deeplens_workers.pupil import find_pupils
from deeplens_workers.render import KernelRenderer, load
from tests.deeplens_workers.conftest import at_depth, tracing

D_LINE = 0.58756
SIDE = 240  # rays across the first surface
MENISCUS = [
    {"type": "Spheric", "roc": 60.0, "r": 22.0, "d_next": 2.0, "mat2": "n-bk7"},
    {"type": "Spheric", "roc": 22.0, "r": 16.0, "d_next": 22.0, "mat2": "air"},
]
"""In front of a triplet it makes a wide-angle lens: its pupil moves, grows and is cut with the field."""


@pytest.fixture(scope="module")
def wide_angle(tmp_path_factory):
    from deeplens_workers.lens_file import LENSES, find_lens

    lens = json.loads((LENSES / "cooke_triplet_50mm.json").read_text())
    lens["surfaces"] = MENISCUS + lens["surfaces"]
    lens["r_sensor"] = 24.0
    path = tmp_path_factory.mktemp("lens") / "wide.json"
    path.write_text(json.dumps(lens))
    return load(find_lens(str(path)), 3.2)


@pytest.fixture(params=[*available(), "wide angle"])
def any_lens(request, renderer):
    return request.getfixturevalue("wide_angle") if request.param == "wide angle" else renderer(request.param)


def share_of_light(one, point, symmetric: bool) -> tuple[float, float]:
    """Shares of the light inside the pupil that is found, and of the pupil that light passes, by rays over the first surface."""
    tracer = one.tracer
    place, _ = (
        one._canonical(tracer.object_points(point[None])) if symmetric else (tracer.object_points(point[None]), 0)
    )
    waves = np.array([D_LINE])
    pupil = find_pupils(tracer, place, waves, symmetric)
    (plane,), (radius,) = tracer.pupil(place)
    side = 1.1 * max(tracer._lens.surfaces[0].r, radius) + abs(plane) * np.hypot(*place[0, :2]) / -place[0, 2]
    axis = (np.arange(SIDE) + 0.5) * 2 / SIDE - 1
    spread = side * np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    passes = tracer.hits(place, spread[None], waves)[1][0]
    inside = np.square((spread - pupil.center) / pupil.radii).sum(axis=1) <= 1
    assert passes.sum() > 200
    return (passes & inside).sum() / passes.sum(), passes.sum() * (2 * side / SIDE) ** 2 / (np.pi * pupil.radii.prod())


@pytest.mark.parametrize("symmetric", [True, False])
def test_all_of_the_light_is_in_the_pupil_and_little_else(any_lens, symmetric):
    count = 50 if symmetric else 8
    xy = np.random.default_rng(0).uniform(-1, 1, (count, 2))
    xy[0] = 1.0
    points = at_depth(xy, -1e4)
    shares, used = np.transpose([share_of_light(any_lens, point, symmetric) for point in points.astype(float)])
    assert shares.min() > 0.999
    # Not turned onto the x axis, a cut pupil lies askew in its ellipse: the phone lens then fills 0.89 of it.
    assert np.median(used) > (0.9 if symmetric else 0.85)


def test_the_corner_of_the_triplet_has_all_of_its_light(renderer):
    """25.2 um by an independent tracer with an unbounded pupil."""
    corner = at_depth(np.array([[1.0, 1.0]]), -1e4)
    rendered = renderer("cooke_triplet_50mm").render(corner, tracing(16384, (D_LINE,)))
    assert rendered.rms_radius_px[0, 0] * 3.2 == pytest.approx(25.2, rel=5e-3)


@pytest.mark.parametrize("symmetry", [True, False])
def test_a_thin_lens_darkens_with_the_fourth_power_of_the_cosine(tmp_path, symmetry):
    surfaces = [
        {"type": "Aperture", "r": 2.0, "d_next": 0.0, "is_aperture": True},
        {"type": "ThinLens", "r": 4.0, "f": 50.0, "d_next": 50.0, "mat2": "air"},
    ]
    path = tmp_path / "thin.json"
    path.write_text(json.dumps({"surfaces": surfaces, "r_sensor": 40.0}))
    one = KernelRenderer(load(find_lens(str(path)), 20.0).tracer, symmetry)
    points = at_depth(np.array([[0.0, 0.0], [0.3, -0.4], [1.0, 0.0], [-0.8, 0.9]]), -1e6)
    light = one.render(points, tracing(256, (D_LINE,), (32, 32))).relative_illumination[:, 0]
    tangent = np.hypot(*points[:, :2].T) * 40.0 / np.sqrt(2) / 50.0
    np.testing.assert_allclose(light, np.cos(np.arctan(tangent)) ** 4, rtol=2e-3)
