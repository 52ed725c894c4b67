"""A model as a lens of DeepLens, answering to DeepLens' own signatures, convolutions and drawings."""

import inspect
import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from deeplens_workers.geolens import GeoLens, Lens, PSFNetLens
from deeplens_workers.psf_lens import PSFLens
from tests.deeplens_workers.spots import CHANNELS, DEPTH, PULL, centroid, focusing, made, network_of, picture


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        (Lens, ["psf", "psf_rgb", "render", "psf_map", "psf_map_rgb", "point_source_grid", "set_sensor"]),
        (Lens, ["set_sensor_res", "calc_fov", "render_psf_patch", "render_rgbd", "draw_psf_map", "draw_psf_radial"]),
        (GeoLens, ["psf", "psf_rgb", "render", "warp", "calc_scale"]),
        (PSFNetLens, ["psf", "psf_rgb", "refocus"]),
    ],
)
def test_its_methods_take_what_deeplens_own_take(kind: type, names: list[str]):
    for name in names:
        ours, theirs = (inspect.signature(getattr(one, name)).parameters.values() for one in (PSFLens, kind))
        assert [(p.name, p.kind, p.default) for p in ours] == [(p.name, p.kind, p.default) for p in theirs], name
    assert issubclass(PSFLens, Lens)


@pytest.mark.filterwarnings("ignore:.*light falls outside")
@pytest.mark.parametrize("ks", [7, 8, 9, 15, 16, 64])
@pytest.mark.parametrize("method", ["conv", "fft"])
def test_deeplens_convolutions_put_light_where_the_kernel_has_it(ks: int, method: str):
    lens = made()
    light = torch.zeros(1, 3, 101, 121)
    light[..., 50, 60] = 1
    patch = lens.render(light, method="psf_patch", patch_center=(1.0, -1.0), psf_ks=ks, conv_method=method)
    torch.testing.assert_close(patch.sum(dim=(-2, -1)), torch.ones(1, 3))
    expected = torch.tensor([60 + PULL, 50 + PULL]).expand(1, 3, 2)
    torch.testing.assert_close(centroid(patch), expected, atol=0.06 if ks < 9 else 0.01, rtol=0)


def test_points_come_as_lists_and_tensors_one_or_many():
    lens = made()
    one, many = [0.3, -0.5, DEPTH], [[0.3, -0.5, DEPTH], [0.0, 1.0, DEPTH]]
    assert lens.psf(one).shape == (64, 64)
    assert lens.psf(many, 0.486, 11).shape == (2, 11, 11)
    assert lens.psf_rgb(torch.tensor(one), ks=10).shape == (3, 10, 10)
    assert lens.psf_rgb(torch.tensor(many)).shape == (2, 3, 64, 64)
    torch.testing.assert_close(lens.psf(np.array(many), ks=9)[0], lens.psf(torch.tensor(one), ks=9))
    for bad in ([0.0, 0.0], [[0.0, 0.0]], [], 0.0):
        with pytest.raises(ValueError, match=r"\[N, 3\]"):
            lens.psf(bad)


def test_colours_are_red_first_in_whatever_order_the_model_has_them():
    lens, turned = made(), made(channels=CHANNELS[::-1])
    assert turned.wvln_rgb == lens.wvln_rgb == [0.656, 0.587, 0.486]
    point = [0.3, -0.5, DEPTH]
    torch.testing.assert_close(turned.psf_rgb(point), lens.psf_rgb(point).flip(0))
    torch.testing.assert_close(lens.psf(point), lens.psf_rgb(point)[1])  # None: the primary one
    with pytest.raises(ValueError, match=r"0\.656, 0\.587, 0\.486"):
        lens.psf(point, 0.55)


def test_a_model_of_one_channel_has_kernels_and_no_colours():
    lens = made(channels=CHANNELS[:1], primary_um=0.6)
    assert lens.psf([0.0, 0.0, DEPTH], ks=9).shape == (9, 9)
    assert lens.psf_map((3, 2), ks=9).shape == (2, 3, 1, 9, 9)
    for call in (lambda: lens.psf_rgb([0.0, 0.0, DEPTH]), lambda: lens.render(picture())):
        with pytest.raises(ValueError, match="three channels"):
            call()


def test_a_map_is_of_its_patches_middles_and_one_call():
    lens = made()
    found = lens.psf_map_rgb(grid=(7, 4), ks=9)
    assert network_of(lens).calls == 1
    assert found.shape == (4, 7, 3, 9, 9)
    for row, column in ((0, 0), (3, 6), (1, 2)):
        point = [(2 * column + 1) / 7 - 1, 1 - (2 * row + 1) / 4, DEPTH]
        torch.testing.assert_close(found[row, column], lens.psf_rgb(point, ks=9))
    torch.testing.assert_close(lens.psf_map((7, 4), 0.486, DEPTH, 9)[:, :, 0], found[:, :, 2])
    assert lens.psf_map_rgb(3, ks=9).shape == (3, 3, 3, 9, 9)


def test_a_grid_of_points_has_columns_rows_and_millimetres():
    lens = made()
    for grid in ((7, 4), (1, 5), (5, 1)):
        points = lens.point_source_grid(-2000.0, grid)
        assert points.shape == (grid[1], grid[0], 3)
        top_left, bottom_right = torch.tensor([1 / grid[0] - 1, 1 - 1 / grid[1], -2000.0]), points[-1, -1]
        torch.testing.assert_close(points[0, 0], top_left)
        torch.testing.assert_close(bottom_right, top_left * torch.tensor([-1, -1, 1]))
    to_the_edge = lens.point_source_grid(DEPTH, (3, 1), center=False)
    torch.testing.assert_close(to_the_edge[0, :, :2], torch.tensor([[-0.98, 0], [0, 0], [0.98, 0]]))
    in_mm = lens.point_source_grid(-2000.0, (2, 2), normalized=False)
    torch.testing.assert_close(in_mm[0, 1], torch.tensor([0.5 * 1.2 * 500, 0.5 * 0.8 * 500, -2000.0]))
    quarter = lens.point_source_grid(DEPTH, (6, 4), quater=True)
    assert quarter.shape == (2, 3, 3)
    assert (quarter[..., :2] > 0).all()


def test_gradients_are_those_of_finite_differences():
    lens = focusing().astype(torch.float64)
    lens.set_sensor((2.0, 1.0), (300, 150))
    at = torch.tensor([[0.4, -0.7, -700.0], [-0.2, 0.1, -500.0]], dtype=torch.float64, requires_grad=True)
    focus = torch.tensor([-600.0, -800.0], dtype=torch.float64, requires_grad=True)
    weights = torch.rand(2, 3, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def value(points: Tensor, foc_dist: Tensor) -> Tensor:
        kernels: Tensor = lens.psf_rgb(points, ks=12, foc_dist=foc_dist)
        return (weights * kernels).sum()

    assert torch.autograd.gradcheck(value, (at, focus), eps=1e-5, atol=1e-8)
    depth = torch.tensor(-700.0, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(lens.psf_map(depth=depth, ks=9)[..., 4, 4].sum(), depth)
    assert slope.abs() > 0


def test_the_sensor_is_of_whole_kernel_pixels_and_a_smaller_one_is_its_middle():
    lens = made(sensor_mm=(2.4049, 1.6), distortion=None)
    assert lens.sensor_res == (240, 160)
    assert lens.sensor_size == pytest.approx((2.4, 1.6))
    before = lens.psf_rgb([0.5 * 1.2, 0.5 * 0.8, DEPTH], ks=9)
    lens.set_sensor((1.44, 0.64), (144, 64))
    torch.testing.assert_close(lens.psf_rgb([1.0, 1.0, DEPTH], ks=9), before)
    assert lens.hfov == pytest.approx(2 * math.atan(0.72 / 4))
    assert lens.rfov == pytest.approx(math.atan(math.hypot(0.72, 0.32) / 4))


@pytest.mark.parametrize("pixels", [(120, 80), (480, 320), (331, 221)])
def test_kernels_are_on_the_sensors_pixels(pixels: tuple[int, int]):
    lens, coarser = made(), 240 / pixels[0]
    lens.set_sensor((2.4, 1.6), pixels)
    kernel = lens.psf([1.0, 1.0, DEPTH], ks=33)
    torch.testing.assert_close(kernel.sum(), torch.tensor(1.0))
    off = torch.tensor([PULL, -PULL]) / coarser
    torch.testing.assert_close(centroid(kernel) - 16, off, atol=0.01 / coarser, rtol=0)
    assert lens.window_px >= 9 / coarser > lens.window_px - 2


def test_set_sensor_res_keeps_the_diagonal():
    lens = made()
    diagonal = lens.r_sensor
    lens.set_sensor_res((120, 80))
    assert (lens.r_sensor, lens.pixel_size) == pytest.approx((diagonal, 0.02))


@pytest.mark.parametrize(
    ("size", "pixels", "what"),
    [
        ((2.5, 1.6), (250, 160), r"set_sensor\(\(2.4, 1.536\), \(250, 160\)\)"),
        ((1.6, 2.4), (160, 240), "2.4 x 1.6"),
        ((2.4, 1.6), (240, 150), "square"),
        ((2.4, 1.6), (0, 0), "positive"),
        ((float("nan"), 1.6), (240, 160), "positive"),
    ],
)
def test_sensors_that_the_model_does_not_know_are_refused_and_change_nothing(size, pixels, what: str):
    lens = made()
    with pytest.raises(ValueError, match=what):
        lens.set_sensor(size, pixels)
    assert lens.sensor_res == (240, 160)
    assert lens.sensor_size == pytest.approx((2.4, 1.6))


@pytest.mark.parametrize("depth", [-2000.0, float("-inf"), float("nan"), 1000.0])
@pytest.mark.parametrize("lens", [made(), focusing()])
def test_depths_that_the_kernels_are_not_of_are_refused(lens: PSFLens, depth: float):
    with pytest.raises(ValueError, match="depth_mm"):
        lens.psf([[0.0, 0.0, lens.obj_depth], [0.0, 0.0, depth]])
    lens.psf_map((2, 2))  # the default is one of them


def test_focus_by_refocus_by_keyword_and_by_default():
    lens = focusing()
    point = [0.3, -0.5, -600.0]
    assert lens.foc_dist == -900.0
    nearer = lens.psf(point, ks=9, foc_dist=-600.0)
    assert nearer.max() > lens.psf(point, ks=9).max()  # in focus
    lens.refocus(-600.0)
    torch.testing.assert_close(lens.psf(point, ks=9), nearer)
    for refused in (lens, made()):
        with pytest.raises(ValueError, match="focus_mm"):
            refused.refocus(-100.0)
    assert lens.foc_dist == -600.0


def test_options_of_ray_tracing_are_refused_where_they_ask_for_other_kernels():
    lens = made()
    point = [0.0, 0.0, DEPTH]
    lens.psf(point, spp=4096, recenter=True, model="geometric")
    made(centre="pinhole").psf(point, recenter=False)
    for options in ({"recenter": False}, {"model": "coherent"}, {"kernel_size": 9}):
        with pytest.raises(ValueError, match=next(iter(options))):
            lens.psf(point, **options)


def test_it_moves_changes_precision_and_is_copied():
    lens = made().astype(torch.float64)
    assert lens.psf_rgb([0.0, 0.0, DEPTH]).dtype == torch.float64
    half = made().astype(torch.float16).psf([0.3, -0.5, DEPTH])
    assert (half - lens.psf([0.3, -0.5, DEPTH])).abs().max() < 1e-3
    copy = lens.clone().astype(torch.float32).to("cpu")
    assert (copy.psf([0.0, 0.0, DEPTH]).dtype, lens.dtype) == (torch.float32, torch.float64)
    assert lens.render(picture()).dtype == torch.float32


def test_deeplens_draws_it(tmp_path: Path):
    lens = made()
    figure, axes = lens.draw_psf_map(grid=(3, 2), ks=15, show=True)
    plt.close(figure)
    assert axes.images[0].get_array().shape == (30, 45, 3)
    lens.draw_psf_radial(M=3, ks=15, save_name=tmp_path / "radial.png")
    with Image.open(tmp_path / "radial.png") as drawn:
        assert drawn.size == (3 * 16 + 1, 17)
