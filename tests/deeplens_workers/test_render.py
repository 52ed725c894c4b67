"""Against the prescriptions' figures and closed forms; against DeepLens' own psf in test_agreement.py."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deeplens_workers.lens_file import find_lens
from deeplens_workers.preparation import fill_in
from deeplens_workers.psf_data import PsfData
from deeplens_workers.render import KernelRenderer, load
from spaces.errors import SpaceError
from tests.deeplens_workers.conftest import at_depth, rel_l2, tracing

# On the axis, in four octants and in the corner.
FIELD = np.array([[0, 0], [0.5, 0.3], [-0.3, 0.8], [-0.9, -0.2], [0.6, -0.7], [1, 1]])


@pytest.mark.parametrize(
    ("name", "foclen_mm", "fnum", "half_field_deg"),
    [
        ("cooke_triplet_50mm", 50.02, 4.82, 20.07),
        ("double_gauss_100mm", 100.03, 3.10, 14.18),
        ("plano_hyperbolic_50mm", 50.0, 10.0, 10.2),
        ("phone_wide_5mm", 5.0, 2.4, 34.99),
    ],
)
def test_shipped_lenses_have_the_prescriptions_figures(renderer, name, foclen_mm, fnum, half_field_deg):
    lens = renderer(name).tracer._lens
    assert lens.foclen == pytest.approx(foclen_mm, rel=1e-3)
    assert lens.fnum == pytest.approx(fnum, rel=2e-3)
    assert np.rad2deg(lens.rfov) == pytest.approx(half_field_deg, rel=0.015)


def test_the_phone_lens_has_the_spots_and_the_light_of_its_documentation(renderer):
    """docs/lens-files.md: RMS radii in um, distortion in percent and relative illumination, on the way to the corner."""
    along = np.array([0.0, 0.25, 0.5, 0.7, 0.85, 1.0])
    white = ((0.656, 1.0), (0.587, 1.0), (0.486, 1.0))
    how = replace(tracing(16384), channels=(white,))
    rendered = renderer("phone_wide_5mm", 0.7).render(at_depth(np.stack([along, along], axis=1), -1e4), how)
    np.testing.assert_allclose(0.7 * rendered.rms_radius_px[:, 0], [2.77, 2.80, 1.56, 2.05, 1.83, 2.95], rtol=0.02)
    np.testing.assert_allclose(rendered.relative_illumination[:, 0], [1, 0.91, 0.72, 0.57, 0.52, 0.46], atol=0.01)
    assert rendered.lost.max() == 0
    outwards = rendered.chief_ray_offset_px[1:] @ [0.8, 0.6] * 0.7e-3
    np.testing.assert_allclose(100 * outwards / (3.5 * along[1:]), [-0.57, 0.66, 1.48, 0.83, -1.32], atol=0.02)


def test_the_pixel_pitch_is_exact_and_the_sensor_keeps_its_size(renderer):
    fine, coarse = (renderer("cooke_triplet_50mm", pitch).tracer._lens for pitch in (3.2, 7.1))
    assert fine.pixel_size == 3.2e-3
    assert fine.sensor_size == coarse.sensor_size
    assert fine.sensor_res == (8043, 8043)


def test_far_fewer_rays_are_traced_for_a_grid_of_a_centred_lens():
    x, y = np.meshgrid(np.linspace(-1, 1, 20), np.linspace(-1, 1, 20))
    quick = load(find_lens("cooke_triplet_50mm"), 3.2)
    kernels = quick.render(at_depth(np.stack([x.ravel(), y.ravel()], -1), -10000), tracing(64))
    assert quick.rays_traced < 60 * 3 * 600  # radii, wavelengths, rays of a map
    assert (kernels.rays == 64).all()


def test_lateral_colour_is_radial_and_of_opposite_sign_for_blue_and_red(renderer):
    triplet = renderer("cooke_triplet_50mm")
    rendered = triplet.render(at_depth(np.array([[0.7, 0.0]]), -10000), tracing(1024, (0.486, 0.587, 0.656)))
    blue, green, red = rendered.lateral_color_px[0]
    np.testing.assert_allclose(green, 0, atol=1e-5)
    assert blue[0] * red[0] < 0
    np.testing.assert_allclose([blue[1], red[1]], 0, atol=1e-6)


def test_without_recentring_kernels_lie_where_distortion_puts_them(renderer):
    triplet = renderer("cooke_triplet_50mm")
    points = at_depth(np.array([[0.2, 0.1]]), -10000)
    centred, placed = (
        triplet.render(points, tracing(8192, (0.587,), (64, 64), centre=centre)) for centre in ("chief ray", "pinhole")
    )
    axis = np.arange(64) - 31.5
    kernel = placed.kernels[0, 0] - centred.kernels[0, 0]
    shift = np.array([kernel.sum(0) @ axis, -(kernel.sum(1) @ axis)])  # rows run downwards
    np.testing.assert_allclose(shift, centred.chief_ray_offset_px[0], atol=0.02)
    np.testing.assert_array_equal(placed.chief_ray_offset_px, centred.chief_ray_offset_px)


def test_a_channel_of_several_wavelengths_is_their_weighted_mean(renderer):
    triplet = renderer("cooke_triplet_50mm")
    points = at_depth(FIELD[:3], -10000)
    apart = triplet.render(points, tracing(4096, (0.5, 0.6)))
    mixed = tracing(4096, ())
    together = triplet.render(
        points, type(mixed)((((0.5, 1.0), (0.6, 3.0)),), mixed.trace_px, mixed.kernel_px, mixed.rays)
    )
    # No light of these points is vignetted at one wavelength more than at the other.
    np.testing.assert_allclose(
        together.kernels[:, 0], 0.25 * apart.kernels[:, 0] + 0.75 * apart.kernels[:, 1], rtol=0.02, atol=2e-5
    )
    assert (together.rays == 8192).all()


@pytest.mark.parametrize("focus_mm", [-2000.0, -1e6])
def test_a_lens_focused_at_the_object_is_sharper_than_one_that_is_not(focus_mm):
    lens = find_lens("cooke_triplet_50mm")
    points = np.array([[0.0, 0.0, focus_mm, focus] for focus in (focus_mm, -700.0)])
    sharp, blurred = load(lens, 3.2).render(points, tracing(1024)).rms_radius_px
    assert (sharp < 0.5 * blurred).all()


def test_focus_distances_before_leave_nothing_in_the_bits(renderer):
    random = np.random.default_rng(0)
    focus = -1 / random.uniform(1e-4, 2e-3, 12)
    points = np.column_stack([np.tile([0.3, 0.2, -2000.0], (12, 1)), focus]).astype(np.float32)
    one = renderer("cooke_triplet_50mm")
    before = one.render(points[:1, :3], tracing(256)).kernels
    together = one.render(points, tracing(256)).kernels
    assert before.tobytes() == one.render(points[:1, :3], tracing(256)).kernels.tobytes()
    for index in random.permutation(12):
        assert one.render(points[index : index + 1], tracing(256)).kernels.tobytes() == together[index].tobytes()
    fresh = load(find_lens("cooke_triplet_50mm"), 3.2).render(points[7:8], tracing(256)).kernels
    assert fresh.tobytes() == together[7].tobytes()


def test_a_focus_that_cannot_be_is_named_and_leaves_the_lens_as_it_was(renderer):
    one, axis = renderer("cooke_triplet_50mm"), np.array([[0.0, 0.0, -2000.0, -3000.0]])
    before = one.render(axis, tracing(64)).kernels
    with pytest.raises(ValueError, match=r"cannot be focused at -40 mm, within its focal length, 50\.0 mm"):
        one.render(np.array([[0.0, 0.0, -2000.0, -40.0]]), tracing(64))
    assert one.render(axis, tracing(64)).kernels.tobytes() == before.tobytes()
    with pytest.raises(ValueError, match="reaches its kernel, focused at -55 mm"):
        one.render(np.array([[0.9, 0.9, -1e6, -55.0]]), tracing(64, px=(4, 4)))


@pytest.mark.parametrize("maps", [True, False])
@pytest.mark.parametrize("noise", [0.02, 0.005])
def test_asked_for_a_noise_it_takes_the_rays_that_needs(renderer, noise, maps):
    triplet = KernelRenderer(renderer("cooke_triplet_50mm").tracer, maps=maps)
    points = at_depth(FIELD, -10000)
    reference = triplet.render(points, tracing(2**16, (0.587,)))
    rendered = triplet.render(points, tracing(2**15, (0.587,), noise=noise))
    assert rel_l2(rendered.kernels, reference.kernels).max() < 2 * noise
    assert 256 <= rendered.rays.min() <= rendered.rays.max() < 2**15
    bounded = triplet.render(points, tracing(512, (0.587,), noise=1e-6))
    assert (bounded.rays == 512).all()


@pytest.mark.parametrize(
    ("model", "rays"), [pytest.param("coherent", 1_000_000, marks=pytest.mark.slow), ("huygens", 4096)]
)
def test_wave_optical_models_are_deeplens_own(model, rays):
    renderer = load(find_lens("plano_hyperbolic_50mm"), 5.0)
    points = at_depth(np.array([[0.0, 0.0], [0.2, 0.0]]), -1e6)
    first, again = (renderer.render(points, tracing(rays, (0.5876,), (31, 31), model=model)) for _ in range(2))
    assert first.kernels.shape == (2, 1, 31, 31)
    np.testing.assert_allclose(first.kernels.sum((2, 3)), 1, rtol=1e-5)
    np.testing.assert_array_equal(first.kernels, again.kernels)
    # On the axis the peak is in the middle, but for the whole pixel to which DeepLens rounds the coherent model's place.
    peak = np.unravel_index(first.kernels[0, 0].argmax(), (31, 31))
    assert np.abs(np.array(peak) - 15).max() <= 1


@settings(max_examples=25, deadline=None)
@given(
    x=st.floats(-1, 1, width=32),
    y=st.floats(-1, 1, width=32),
    trace_px=st.integers(16, 70),
    pooled=st.floats(0.1, 1),
    seed=st.integers(0, 2**31),
)
def test_kernels_are_distributions_of_any_size(renderer, x, y, trace_px, pooled, seed):
    kernel_px = max(1, int(pooled * trace_px))
    points = at_depth(np.array([[x, y]]), -10000)
    rendered = renderer("cooke_triplet_50mm").render(points, tracing(256, px=(trace_px, kernel_px), seed=seed))
    assert rendered.kernels.shape == (1, 3, kernel_px, kernel_px)
    assert rendered.kernels.min() >= 0
    np.testing.assert_allclose(rendered.kernels.sum((2, 3)), 1, rtol=1e-5)
    assert ((rendered.lost >= 0) & (rendered.lost < 1)).all()


@settings(max_examples=15, deadline=None)
@given(x=st.floats(0, 1), y=st.floats(0, 1), kernel_px=st.sampled_from([15, 16]))
def test_turning_or_mirroring_the_field_point_does_so_to_the_kernel(renderer, x, y, kernel_px):
    points = at_depth(np.array([[x, y], [-y, x], [-x, -y], [y, -x], [-x, y]]), -10000)
    kernels = renderer("cooke_triplet_50mm").render(points, tracing(4096, px=(64, kernel_px))).kernels
    for turns in (1, 2, 3):
        assert rel_l2(kernels[turns][None], np.rot90(kernels[0], turns, axes=(1, 2))[None]) < 0.02
    assert rel_l2(kernels[4][None], kernels[0][None, :, :, ::-1]) < 0.02


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), count=st.integers(1, 40), maps=st.booleans())
def test_a_point_keeps_its_bits_among_other_points(renderer, seed, count, maps):
    triplet = KernelRenderer(renderer("cooke_triplet_50mm").tracer, maps=maps)
    random = np.random.default_rng(seed)
    points = at_depth(random.uniform(-1, 1, (count, 2)), -10000)
    how = tracing(100)
    whole = triplet.render(points, how)
    order, one = random.permutation(count), random.integers(count)
    shuffled, alone = triplet.render(points[order], how), triplet.render(points[one : one + 1], how)
    for name in whole.names():
        np.testing.assert_array_equal(getattr(shuffled, name), getattr(whole, name)[order])
        np.testing.assert_array_equal(getattr(alone, name)[0], getattr(whole, name)[one])


def test_collimated_light_of_the_design_wavelength_becomes_a_point(renderer):
    """The plano-hyperbolic singlet is free of spherical aberration: a closed form for aspheric tracing."""
    axis = np.array([[0.0, 0.0, -1e10]])
    rendered = renderer("plano_hyperbolic_50mm").render(axis, tracing(1024, (0.5876, 0.486), (15, 15)))
    assert rendered.rms_radius_px[0, 0] < 1e-3
    assert rendered.kernels[0, 0, 7, 7] > 0.999
    assert rendered.rms_radius_px[0, 1] > 1


def test_light_outside_the_window_is_counted_as_lost(renderer):
    corner = at_depth(np.array([[-0.8, 0.8]]), -10000)
    singlet = renderer("plano_hyperbolic_50mm", 5.0)
    wide, narrow = (singlet.render(corner, tracing(8192, (0.587,), (px, px))) for px in (64, 16))
    inside = wide.kernels[0, 0, 24:40, 24:40].sum() * (1 - wide.lost[0, 0])
    assert narrow.lost[0, 0] == pytest.approx(1 - inside, abs=0.02)
    assert narrow.lost[0, 0] > 0.1
    assert wide.rms_radius_px == pytest.approx(narrow.rms_radius_px, rel=1e-3)


def test_the_seed_changes_the_pupil_samples_only(renderer):
    points = at_depth(FIELD[:2], -10000)
    first, second = (renderer("cooke_triplet_50mm").render(points, tracing(256, seed=seed)) for seed in (0, 1))
    assert 0 < rel_l2(first.kernels, second.kernels).mean() < 0.1
    np.testing.assert_array_equal(first.chief_ray_offset_px, second.chief_ray_offset_px)


def test_a_point_without_light_is_an_error(renderer):
    with pytest.raises(ValueError, match=r"no light of field point \[5\.0, 5\.0, -10000\.0\]"):
        renderer("cooke_triplet_50mm").render(np.array([[5.0, 5.0, -10000.0]]), tracing(64, (0.587,)))


def test_a_lens_deeplens_cannot_load_is_an_error():
    triplet = find_lens("cooke_triplet_50mm")
    odd = replace(triplet, text=triplet.text.replace('"Spheric"', '"Odd"'))
    with pytest.raises(ValueError, match=r"cooke_triplet_50mm: DeepLens cannot load it: .*Odd"):
        load(odd, 3.2)


def test_a_lens_for_the_thermal_infrared_renders(tmp_path):
    """A germanium singlet at 10 um, of whose spherical aberration the spot is: third-order theory."""
    radius, index = 300.0, 4.0032  # the index only names what is expected of the focal length
    surfaces = [
        {"type": "Spheric", "roc": radius, "r": 10.0, "d_next": 4.0, "mat2": "germanium", "is_aperture": True},
        {"type": "Spheric", "roc": 2 * radius, "r": 12.0, "d_next": 190.0, "mat2": "air"},
    ]
    path = tmp_path / "infrared.json"
    lens = {"surfaces": surfaces, "r_sensor": 8.0, "primary_wvln": 10.0, "wvln_rgb": [12.0, 10.0, 8.0]}
    path.write_text(json.dumps(lens))
    found = find_lens(str(path))
    power = (index - 1) * (1 / radius - 1 / (2 * radius) + (index - 1) * 4.0 / (index * 2 * radius**2))
    assert found.conditions.focal_length_mm == pytest.approx(1 / power, rel=1e-3)
    one = load(found, 12.0)
    assert one.tracer.foclen == pytest.approx(found.conditions.focal_length_mm, rel=1e-6)
    rendered = one.render(at_depth(FIELD[:2], -1e7), tracing(1024, (12.0, 10.0, 8.0), (64, 16)))
    assert (rendered.rms_radius_px > 0).all()
    visible = find_lens("cooke_triplet_50mm")
    assert fill_in(PsfData(lens="cooke_triplet_50mm", psf_model="huygens"), visible).psf_model == "huygens"
    with pytest.raises(SpaceError, match="huygens"):
        fill_in(PsfData(lens=str(path), psf_model="huygens"), found)
