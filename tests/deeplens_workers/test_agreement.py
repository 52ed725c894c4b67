"""Our kernels and DeepLens' own, at random points of every octant and three depths: the same but for Monte-Carlo noise.

Two independent estimates a and b of one kernel differ by |a - b|^2 = n_a^2 + n_b^2 on average, and two of one method by 2 n^2;
so the noise of both methods is measured by rendering twice, and the methods may differ by no more.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import root

from deeplens_workers.lens_file import LENSES, find_lens
from deeplens_workers.pooling import area_weights
from deeplens_workers.pupil_map import HALF, WHOLE
from deeplens_workers.render import KernelRenderer, load
from tests.deeplens_workers.conftest import at_depth, rel_l2, tracing

LENS_PITCHES = [
    ("cooke_triplet_50mm", 3.2),
    ("double_gauss_100mm", 3.2),
    pytest.param("phone_wide_5mm", 0.7, marks=pytest.mark.slow),
    ("plano_hyperbolic_50mm", 5.0),
]
# In mm, around where each is focused, so that most light falls into the window.
DEPTHS = {
    "cooke_triplet_50mm": (-1e6, -10000.0, -3000.0),
    "double_gauss_100mm": (-1e6, -3e5, -1e5),
    "phone_wide_5mm": (-10000.0, -2000.0, -1000.0),
    "plano_hyperbolic_50mm": (-1e6, -10000.0, -3000.0),
}
POINTS = 50
WAVE = 0.587
RAYS = 4096


def scattered(name: str):
    """Field points evenly at random in all octants, each at one of the lens' depths in turn."""
    random = np.random.default_rng(0)
    octant = np.arange(POINTS) % 8
    angle, radius = (octant + random.uniform(size=POINTS)) * np.pi / 4, np.sqrt(random.uniform(0, 1, POINTS))
    xy = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    return at_depth(xy, np.resize(DEPTHS[name], POINTS))


def deeplens_psf(lens, points, seed: int):
    """DeepLens' kernels [N, 15, 15], pooled as ours; it splats all points of a call, of one depth, at once.

    Its rays are drawn from a disc that holds all of the light.
    """
    import torch

    from deeplens_workers.geolens import rays_through

    torch.manual_seed(seed)
    weights = area_weights(64, 15)
    with torch.no_grad(), rays_through(lens, lens.entr_pupilz, 1.3 * lens.entr_pupilr):
        psf = lens.psf(torch.tensor(points), wvln=WAVE, ks=64, spp=RAYS)
    return weights @ psf.double().numpy() @ weights.T


def assert_same_but_for_noise(ours, theirs, allowed=1.1):
    """`ours` and `theirs`: two independent renderings [N, K, K] each."""
    noise = [(rel_l2(*twice) ** 2).mean() / 2 for twice in (ours, theirs)]
    apart = np.mean([(rel_l2(a, b) ** 2).mean() for a in ours for b in theirs])
    assert apart < allowed * sum(noise)
    assert sum(noise) < 0.3**2
    mirrored = (rel_l2(ours[0][:, ::-1], theirs[0]) ** 2).mean()
    assert mirrored > 4 * apart  # what the comparison would see of a wrong orientation


@pytest.mark.parametrize(("name", "pitch_um"), LENS_PITCHES)
def test_kernels_agree_with_deeplens_psf(renderer, name, pitch_um):
    one, points = renderer(name, pitch_um), scattered(name)
    ours = [one.render(points, tracing(RAYS, (WAVE,), seed=seed)).kernels[:, 0] for seed in (0, 1)]
    theirs = [deeplens_psf(one.tracer._lens, points, seed) for seed in (0, 1)]
    assert_same_but_for_noise(ours, theirs)


@pytest.mark.parametrize(("name", "pitch_um"), LENS_PITCHES)
def test_turned_and_interpolated_rays_agree_with_rays_traced_one_by_one(renderer, name, pitch_um):
    """With samples thirty times as even as DeepLens', so that 0.1 % of interpolation would be seen."""
    quick, points = renderer(name, pitch_um), scattered(name)
    direct = KernelRenderer(quick.tracer, maps=False)
    ours, theirs, again = (
        each.render(points, tracing(8192, seed=seed)) for each, seed in ((quick, 0), (direct, 0), (direct, 1))
    )
    assert direct.rays_traced == 2 * POINTS * 3 * 8192
    noise = rel_l2(again.kernels, theirs.kernels)
    assert rel_l2(ours.kernels, theirs.kernels).mean() < noise.mean() + 1e-3
    np.testing.assert_allclose(ours.chief_ray_offset_px, theirs.chief_ray_offset_px, atol=1e-3)
    np.testing.assert_allclose(ours.lateral_color_px, theirs.lateral_color_px, atol=1e-3)
    np.testing.assert_allclose(ours.lost, theirs.lost, atol=4 * np.abs(again.lost - theirs.lost).max() + 1e-3)
    np.testing.assert_allclose(ours.rms_radius_px, theirs.rms_radius_px, rtol=0.01)


@pytest.mark.slow
def test_the_phone_lens_in_and_out_of_focus_agrees_with_rays_traced_one_by_one(renderer):
    """Its aspheres bend rays near the rim as no other shipped lens does; 0.8 um pixels, from its corner inwards."""
    quick = renderer("phone_wide_5mm", 0.8)
    direct = KernelRenderer(quick.tracer, maps=False)
    distances = (-500.0, -1000.0, -5000.0)
    field = np.array([[1.0, 1.0], [-0.9, 0.9], [0.6, -0.8], [-0.2, -0.5]])
    points = np.array([[*xy, depth, focus] for focus in distances for depth in distances for xy in field], np.float32)
    before = quick.rays_traced
    ours, theirs, again = (
        each.render(points, tracing(8192, (0.486,), seed=seed)) for each, seed in ((quick, 0), (direct, 0), (direct, 1))
    )
    assert quick.rays_traced - before == len(points) * len(HALF.places)  # no bundle's rays were traced one by one
    noise = rel_l2(again.kernels, theirs.kernels)
    assert rel_l2(ours.kernels, theirs.kernels).mean() < noise.mean() + 1e-3
    np.testing.assert_allclose(ours.rms_radius_px, theirs.rms_radius_px, rtol=0.01)
    np.testing.assert_allclose(ours.lost, theirs.lost, atol=4 * np.abs(again.lost - theirs.lost).max() + 1e-3)


@pytest.mark.parametrize(("name", "pitch_um"), LENS_PITCHES)
def test_chief_rays_are_those_a_root_finder_finds_through_deeplens(renderer, name, pitch_um):
    """scipy's root of where DeepLens' rays, in float64, cross the stop; then where the root's ray lands."""
    tracer, points = renderer(name, pitch_um).tracer, scattered(name)
    objects = tracer.object_points(points)
    rendered = renderer(name, pitch_um).render(points, tracing(64, (WAVE,)))
    waves = np.array([tracer.primary_um])
    offsets = []
    for place in objects:

        def off_centre(pupil, place=place):
            return tracer._at_stop(place[None], pupil[None, None], waves)[0][0, 0]

        solution = root(off_centre, np.zeros(2))
        assert np.abs(solution.fun).max() < 1e-7
        pupil = solution.x
        rays = tracer._rays(tracer._exact, place[None], pupil[None, None], waves)
        landed = -tracer._exact.trace2sensor(rays).o[0, 0, :2].numpy()
        offsets.append((landed - tracer.pinhole_images(place[None])[0]) / tracer.pixel_mm)
    np.testing.assert_allclose(rendered.chief_ray_offset_px, offsets, atol=1e-3)
    assert np.abs(offsets).max() > 1  # distortion is there to be found


@pytest.mark.parametrize("change", [{"pos_xy": [0.2, 0.1]}, {"vec_local": [0.02, 0.01, 0.99975]}])
def test_a_decentred_or_tilted_lens_is_mapped_over_the_whole_pupil_and_agrees(tmp_path: Path, change):
    prescription = json.loads((LENSES / "cooke_triplet_50mm.json").read_text())
    for surface in prescription["surfaces"][2:4]:
        surface.update(change)
    path = tmp_path / "misaligned.json"
    path.write_text(json.dumps(prescription))
    misaligned, points = load(find_lens(str(path)), 3.2), scattered("cooke_triplet_50mm")
    assert not misaligned.tracer.symmetric
    ours = [misaligned.render(points, tracing(RAYS, (WAVE,), seed=seed)).kernels[:, 0] for seed in (0, 1)]
    assert misaligned.rays_traced == 2 * (POINTS + len(np.unique(points[:, 2]))) * len(WHOLE.places)  # and the axis
    theirs = [deeplens_psf(misaligned.tracer._lens, points, seed) for seed in (0, 1)]
    assert_same_but_for_noise(ours, theirs)
    straight = load(find_lens("cooke_triplet_50mm"), 3.2).render(points, tracing(RAYS, (WAVE,)))
    assert rel_l2(ours[0], straight.kernels[:, 0]).mean() > 0.2  # the misalignment matters
