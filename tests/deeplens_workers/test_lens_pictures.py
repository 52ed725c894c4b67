"""Pictures rendered by a model as a lens of DeepLens: light comes where it should, for all methods and sizes of kernels."""

import numpy as np
import pytest
import torch

from deeplens_workers.dataset import tracings
from deeplens_workers.geolens import load_lenses
from deeplens_workers.kernel_optics import fit_distortion
from deeplens_workers.lens_file import find_lens
from deeplens_workers.preparation import fill_in
from deeplens_workers.psf_data import PsfData
from deeplens_workers.render import load
from tests.deeplens_workers.spots import (
    DEPTH,
    PULL,
    barrel,
    centroid,
    distorting,
    focusing,
    made,
    network_of,
    picture,
    psnr,
)


@torch.no_grad()
def test_light_comes_where_the_lens_distorts_it_to():
    lens = distorting()
    for x, y in ((170, 40), (30, 130), (120, 80)):
        light = torch.zeros(1, 3, 160, 240)
        light[..., y - 1 : y + 1, x - 1 : x + 1] = 1  # about the corner of four pixels
        ideal = np.array([x / 120 - 1, 1 - y / 80])
        seen = barrel(ideal)
        pixel = torch.tensor([120 * (seen[0] + 1), 80 * (1 - seen[1])]) - 0.5
        pull = PULL * torch.tensor([ideal[0], -ideal[1]])
        for options in ({}, {"psf_ks": 16}, {"method": "psf_pixel"}):
            found = centroid(lens.render(light, **options))[0, 1]
            torch.testing.assert_close(found, (pixel + pull).float(), atol=0.05, rtol=0)
    moved = lens.render(picture(), warp=False)
    assert psnr(moved, made().render(picture())) > 60 > psnr(moved, lens.render(picture()))


@pytest.mark.parametrize(("method", "even"), [("psf_map", 16), ("psf_map", 64), ("psf_patch", 64), ("psf_pixel", 10)])
def test_even_and_odd_sizes_make_the_same_picture(method: str, even: int):
    lens = distorting()
    odd = lens.render(picture(), method=method, psf_ks=9)
    assert psnr(odd, lens.render(picture(), method=method, psf_ks=even)) > 60


def test_a_picture_in_half_precision_is_distorted_by_places_in_single():
    lens = distorting()
    assert (lens.warp(picture().half()) - lens.warp(picture().half().float())).abs().max() < 1e-3


def test_a_map_of_all_pixels_is_the_picture_of_their_own_kernels():
    lens = made()
    lens.set_sensor((0.48, 0.48), (48, 48))
    ideal = picture(48, 48)
    each = lens.render(ideal, method="psf_pixel")
    errors = [psnr(lens.render(ideal, psf_grid=(n, n)), each, border=8) for n in (1, 6, 48)]
    assert errors == sorted(errors)
    assert errors[-1] > 40  # what is left is that one gathers by its kernels and the other spreads


def test_a_picture_has_gradients_of_depth_weights_and_itself():
    lens = made(depths_mm=(DEPTH, -400.0), distortion=distorting().model.optics.distortion)
    lens.set_sensor((2.4, 1.6), (60, 40))
    depth, ideal = torch.tensor(-700.0, requires_grad=True), picture(40, 60).requires_grad_()
    pixel = lens.render(ideal, depth)[..., 20, 30].sum()
    of_depth, of_width, of_ideal = torch.autograd.grad(pixel, (depth, network_of(lens).width, ideal))
    assert of_depth.abs() > 0
    assert of_width.abs() > 0
    torch.testing.assert_close(of_ideal.sum(), torch.tensor(3.0))  # of unit kernels


def test_pictures_that_cannot_be_rendered_are_refused():
    lens, unknown = made(), made(distortion=None)
    for call, what in (
        (lambda: lens.render(picture(80, 120)), "sensor_res"),
        (lambda: lens.render(picture(), method="ray_tracing"), "psf_map"),
        (lambda: lens.render(picture(), psf_size=9), "psf_ks"),
        (lambda: lens.render(picture(), -2000.0), "depth_mm"),
        (lambda: unknown.render(picture()), "warp=False"),
        (lambda: made(focal_length_mm=None).calc_scale(-1.0), "focal length"),
    ):
        with pytest.raises(ValueError, match=what):
            call()
    unknown.render(picture(), warp=False)


@pytest.mark.parametrize("method", ["psf_patch", "psf_map"])
def test_a_scene_of_one_depth_is_its_plain_picture(method: str):
    lens = focusing()
    depths = torch.full((1, 1, 160, 240), 700.0)
    options = {"psf_grid": (4, 3)} if method == "psf_map" else {}
    flat = lens.render(picture(), -700.0, method, psf_ks=9, **options)
    layered = lens.render_rgbd(picture(), depths, method, psf_ks=9, num_layers=12, **options)
    assert psnr(flat, layered) > 50


@pytest.mark.slow
def test_a_real_lens_distorts_as_deeplens_warps():
    lens_file = find_lens("phone_wide_5mm")
    data = fill_in(PsfData(lens=lens_file.name, rays=64, held_out_rays=512), lens_file)
    assert data.lens_facts is not None
    half_um = 1e3 * np.array(data.lens_facts.sensor_mm) / 2
    axis, depth = np.linspace(-1, 1, 15), data.depths_mm[0]
    ideal = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    points = np.column_stack([ideal, np.full(len(ideal), depth)]).astype(np.float32)
    offsets = load(lens_file, data.pixel_pitch_um).render(points, tracings(data)[0]).chief_ray_offset_px
    known = np.isfinite(offsets).all(axis=1)
    seen = ideal[known] + offsets[known] * data.pixel_pitch_um / half_um
    ours = made(
        sensor_mm=data.lens_facts.sensor_mm,
        depths_mm=(depth,),
        focal_length_mm=data.lens_facts.focal_length_mm,
        distortion=(fit_distortion(ideal[known], seen, half_um, depth),),
    )
    _, (theirs, _, _) = load_lenses(lens_file.text, lens_file.glasses)
    rows, columns = ours.sensor_res[::-1]
    ideal_picture = picture(rows, columns, scale=12)
    warped = ours.warp(ideal_picture)
    assert psnr(warped, theirs.warp(ideal_picture, depth=depth, num_grid=21)) > 45 > psnr(warped, ideal_picture)
    assert ours.rfov == pytest.approx(theirs.rfov, rel=0.01)
