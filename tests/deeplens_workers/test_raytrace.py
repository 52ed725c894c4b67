"""Against the prescriptions' figures, DeepLens' own psf, and closed forms."""

import numpy as np
import pytest

from deeplens_workers.pooling import area_weights
from tests.deeplens_workers.conftest import WAVELENGTHS

# x and y in four octants, on the axis and in the corner; the double Gauss is out of focus at 10 m, so far away there
FIELD = np.array([[0, 0], [0.5, 0.3], [-0.3, 0.8], [-0.9, -0.2], [0.6, -0.7], [1, 1]])


def at_depth(xy, depth_mm):
    return np.column_stack([xy, np.full(len(xy), depth_mm)]).astype(np.float32)


def rel_l2(a, b):
    """Mean over points of ||a - b|| / ||b||."""
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    return float(np.mean(np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)))


@pytest.mark.parametrize(
    ("name", "foclen_mm", "fnum", "half_field_deg"),
    [
        ("cooke_triplet_50mm", 50.02, 4.82, 20.07),
        ("double_gauss_100mm", 100.03, 3.10, 14.18),
        ("plano_hyperbolic_50mm", 50.0, 10.0, 10.2),
    ],
)
def test_shipped_lenses_have_the_prescriptions_figures(tracer, name, foclen_mm, fnum, half_field_deg):
    lens = tracer(name).lens
    assert lens.foclen == pytest.approx(foclen_mm, rel=1e-3)
    assert lens.fnum == pytest.approx(fnum, rel=2e-3)
    assert np.rad2deg(lens.rfov) == pytest.approx(half_field_deg, rel=0.015)


def test_the_pixel_pitch_is_exact_and_the_sensor_keeps_its_size(tracer):
    fine, coarse = tracer("cooke_triplet_50mm", 3.2).lens, tracer("cooke_triplet_50mm", 7.1).lens
    assert fine.pixel_size == 3.2e-3
    assert fine.sensor_size == coarse.sensor_size
    assert fine.sensor_res == (8043, 8043)


def test_kernels_are_distributions(tracer):
    rendered = tracer("cooke_triplet_50mm").render(at_depth(FIELD, -10000), WAVELENGTHS, 64, 15, 1000, 0)
    assert rendered.kernels.shape == (6, 3, 15, 15)
    assert rendered.kernels.min() >= 0
    np.testing.assert_allclose(rendered.kernels.sum((2, 3)), 1, rtol=1e-6)
    assert rendered.rms_radius_px.min() > 1
    assert rendered.lost.max() < 1e-6


@pytest.mark.parametrize(
    ("name", "pitch_um", "depth_mm"),
    [
        ("cooke_triplet_50mm", 3.2, -10000),
        ("double_gauss_100mm", 3.2, -1e6),
        ("plano_hyperbolic_50mm", 5.0, -10000),
    ],
)
def test_kernels_agree_with_deeplens_psf(tracer, name, pitch_um, depth_mm):
    """Two renderings by DeepLens differ by sqrt(2) times its noise, so one of them and ours must differ by less."""
    import torch

    torch.manual_seed(0)
    points = at_depth(FIELD, depth_mm)
    weights = area_weights(64, 15)
    rendered = tracer(name, pitch_um).render(points, WAVELENGTHS, 64, 15, 4096, 0)
    for channel, wavelength in enumerate(WAVELENGTHS):
        theirs = []
        for _ in range(2):
            psf = tracer(name, pitch_um).lens.psf(torch.tensor(points), wvln=wavelength, ks=64, spp=4096)
            theirs.append(weights @ psf.double().numpy() @ weights.T)
        noise = rel_l2(theirs[0], theirs[1])
        ours = rendered.kernels[:, channel]
        assert np.mean([rel_l2(ours, other) for other in theirs]) < noise < 0.2
        assert rel_l2(ours[1:, ::-1], theirs[0][1:]) > 2 * noise  # upside down is far off


def test_chief_rays_pass_the_middle_of_the_stop(tracer):
    """DeepLens' nearest of a million random rays comes within 1e-3 stop radii of where ours goes."""
    import torch

    triplet = tracer("cooke_triplet_50mm")
    objects = triplet.object_points(at_depth(FIELD[:3], -10000))
    rendered = triplet.render(at_depth(FIELD[:3], -10000), (0.587,), 64, 15, 64, 0)
    torch.manual_seed(0)
    with torch.no_grad():
        theirs = triplet.lens.calc_chief_ray(torch.tensor(objects, dtype=torch.float32), num_rays=400_000)
    pinhole = -objects[:, :2] / objects[:, 2:] * triplet.lens.foclen
    offset = (-theirs.o[:, 0, :2].numpy() - pinhole) / 3.2e-3
    np.testing.assert_allclose(rendered.chief_ray_offset_px, offset, atol=0.05)
    np.testing.assert_allclose(rendered.chief_ray_offset_px[0], 0, atol=1e-3)


def test_turning_the_field_point_turns_the_kernel(tracer):
    x, y = 0.8, 0.3
    quarter_turns = at_depth(np.array([[x, y], [-y, x], [-x, -y], [y, -x]]), -10000)
    kernels = tracer("cooke_triplet_50mm").render(quarter_turns, WAVELENGTHS, 64, 15, 4096, 0).kernels
    for turns in (1, 2, 3):
        assert rel_l2(kernels[turns][None], np.rot90(kernels[0], turns, axes=(1, 2))[None]) < 0.01


def test_collimated_light_of_the_design_wavelength_becomes_a_point(tracer):
    """The plano-hyperbolic singlet is free of spherical aberration: a closed form for aspheric tracing."""
    axis = np.array([[0.0, 0.0, -1e10]])
    rendered = tracer("plano_hyperbolic_50mm").render(axis, (0.5876, 0.486), 15, 15, 1024, 0)
    assert rendered.rms_radius_px[0, 0] < 0.01
    assert rendered.kernels[0, 0, 7, 7] > 0.999
    assert rendered.rms_radius_px[0, 1] > 1


def test_light_outside_the_window_is_counted_as_lost(tracer):
    corner = at_depth(np.array([[-0.8, 0.8]]), -10000)
    wide, narrow = (tracer("plano_hyperbolic_50mm", 5.0).render(corner, (0.587,), px, px, 8192, 0) for px in (64, 16))
    inside = wide.kernels[0, 0, 24:40, 24:40].sum() * (1 - wide.lost[0, 0])
    assert narrow.lost[0, 0] == pytest.approx(1 - inside, abs=0.02)
    assert narrow.lost[0, 0] > 0.1
    assert wide.rms_radius_px == pytest.approx(narrow.rms_radius_px, rel=1e-3)


def test_a_point_keeps_its_bits_among_other_points(tracer, make_request):
    triplet = tracer("cooke_triplet_50mm")
    request = make_request(37, rays=250)
    whole = triplet.render(request.points, **request.tracing())
    order = np.random.default_rng(0).permutation(37)
    shuffled = triplet.render(request.points[order], **request.tracing())
    alone = triplet.render(request.points[5:6], **request.tracing())
    for name in whole.names():
        np.testing.assert_array_equal(getattr(shuffled, name), getattr(whole, name)[order])
        np.testing.assert_array_equal(getattr(alone, name)[0], getattr(whole, name)[5])


def test_the_seed_changes_the_pupil_samples_only(tracer, make_request):
    triplet = tracer("cooke_triplet_50mm")
    first, second = (
        triplet.render(request.points, **request.tracing()) for request in (make_request(2), make_request(2, seed=1))
    )
    assert 0 < rel_l2(first.kernels, second.kernels) < 0.1
    np.testing.assert_array_equal(first.chief_ray_offset_px, second.chief_ray_offset_px)


def test_a_point_without_light_is_an_error(tracer):
    with pytest.raises(ValueError, match=r"no light of field point \[5\.0, 5\.0, -10000\.0\]"):
        tracer("cooke_triplet_50mm").render(np.array([[5.0, 5.0, -10000.0]]), (0.587,), 64, 15, 64, 0)


def test_a_lens_deeplens_cannot_load_is_an_error(tmp_path):
    from deeplens_workers.raytrace import RayTracer

    path = tmp_path / "lens.zmx"
    path.write_text("UNIT MM\nSURF 0\nSURF 1\n TYPE STANDARD\n CURV oops\nSURF 2\n")
    with pytest.raises(ValueError, match=r"lens\.zmx: DeepLens cannot load it: .*oops"):
        RayTracer(path, 3.2)
