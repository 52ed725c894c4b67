"""Interpolated rays against the same rays traced, one by one."""

import numpy as np
import pytest
import torch

from deeplens_workers import pupil_map
from deeplens_workers.pupil import find_pupils
from deeplens_workers.pupil_map import HALF, trace_maps
from deeplens_workers.sampling import scramble, sobol
from deeplens_workers.splat import MOMENTS, disc_points, splat_map
from tests.deeplens_workers.conftest import WAVELENGTHS, at_depth, rel_l2, tracing

RAYS = 512
# Along the diagonal, to the sensor's corner.
ALONG = np.array([0.0, 0.3, 0.5, 0.7, 0.85, 0.95, 1.0])


def interpolated(maps, bundle: int, disc) -> np.ndarray:
    """Hits [S, 2] in pixels through points [S, 2] of the unit disc, NaN where stopped: each ray by itself in the moments."""
    arguments = maps.arguments(bundle)
    hits = np.full((len(disc), 2), np.nan)
    for i in range(len(disc)):
        moments = np.zeros(MOMENTS)
        kernel = np.zeros((64, 64), np.float32)
        splat_map(*arguments, np.eye(2), np.zeros(2), 1.0, 1.0, disc[i : i + 1], kernel, moments)
        if moments[0]:
            hits[i] = moments[1:3]
    return hits


@pytest.mark.parametrize(
    ("name", "pitch_um", "focus_mm", "depths_mm"),
    [
        ("cooke_triplet_50mm", 3.2, None, (-1e6, -3000.0)),
        ("double_gauss_100mm", 3.2, None, (-1e6, -1e5)),
        ("plano_hyperbolic_50mm", 5.0, None, (-1e6, -3000.0)),
        ("phone_wide_5mm", 0.8, None, (-5000.0, -500.0)),
        ("phone_wide_5mm", 0.8, -500.0, (-5000.0, -500.0)),
        ("phone_wide_5mm", 0.8, -5000.0, (-5000.0, -500.0)),
        ("phone_wide_5mm", 0.5, -1000.0, (-1000.0,)),
    ],
)
def test_every_bundle_of_the_shipped_lenses_has_a_map_that_lands_rays_where_they_land(
    renderer, name, pitch_um, focus_mm, depths_mm
):
    one = renderer(name, pitch_um)
    tracer = one.tracer
    points = np.array([[along, along, depth] for depth in depths_mm for along in ALONG])
    objects = np.repeat(one._canonical(tracer.object_points(points))[0], len(WAVELENGTHS), axis=0)
    waves = np.tile(WAVELENGTHS, len(points))
    disc = disc_points(sobol(RAYS), scramble(1))
    tracer.focus(focus_mm)
    try:
        with torch.inference_mode():
            pupils = find_pupils(tracer, objects, waves, symmetric=True)
            maps = trace_maps(tracer, objects, waves, pupils)
            traced, valid = tracer.hits(objects, pupils.place(disc), waves)
    finally:
        tracer.focus(None)
    assert maps.usable.all()
    for bundle in range(len(objects)):
        hits = interpolated(maps, bundle, disc)
        passed = ~np.isnan(hits[:, 0])
        assert (passed != valid[bundle]).mean() < 0.004  # rays that touch an aperture's edge
        both = passed & valid[bundle]
        miss = np.abs(hits - traced[bundle] / tracer.pixel_mm)[both].max(axis=1)
        assert np.quantile(miss, 0.98) < 0.03  # the others: in the phone lens' corner, near the rim
        assert np.median(miss) < 0.01


def test_a_bundle_whose_map_is_off_has_its_rays_traced(renderer, monkeypatch):
    one, points = renderer("cooke_triplet_50mm"), at_depth(np.array([[0.3, -0.4], [-0.8, 0.6]]), -10000.0)
    mapped = one.render(points, tracing(4096, (0.587,)))
    monkeypatch.setattr(pupil_map, "TOLERANCE_PX", 0.0)
    before = one.rays_traced
    traced = one.render(points, tracing(4096, (0.587,)))
    assert one.rays_traced - before == 2 * (len(HALF.places) + 4096)
    assert rel_l2(mapped.kernels, traced.kernels).max() < 3e-3
