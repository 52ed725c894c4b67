"""A trained model in a user's hands: kernels of any size, on any pixels, of chosen channels; refusals; precision; gradients."""

from pathlib import Path
from typing import Any

import pytest
import torch

from deeplens_workers.kernel_optics import KernelOptics
from trainables.exports import export, load_model
from trainables.psf.cvae import CVAE, CvaeConfig
from trainables.psf.model import PSFModel
from trainables.psf.resampling import resampled

CONFIG = CvaeConfig(3, 15, {}, latent_dim=4, hidden_dim=16, num_layers=2, fourier_bands=2)
DEEP = CvaeConfig(3, 15, {"depth_mm": (0.1, 2.0)}, latent_dim=4, hidden_dim=16, num_layers=2, fourier_bands=2)
FLAT_POINTS = [[0.0, 0.5], [1.0, -1.0]]


def optics(**changes: object) -> KernelOptics:
    facts = {
        "lens": "triplet",
        "lens_sha256": "0" * 64,
        "kernel_px": 15,
        "pixel_um": 10.0,
        "channels": (((0.656, 1.0),), ((0.587, 1.0),), ((0.486, 1.0),)),
        "centre": "chief ray",
        "sensor_mm": (24.0, 16.0),
        "depths_mm": (-10000.0,),
        "focus_mm": (),
        "primary_um": 0.587,
        "distortion": (),
    }
    return KernelOptics(**(facts | changes))


def made(config: CvaeConfig = CONFIG, **changes: object) -> PSFModel:
    torch.manual_seed(0)
    network = CVAE(config).eval().requires_grad_(False)
    torch.nn.init.normal_(network.decoder.head.weight, std=0.5)
    return PSFModel(network, optics(**changes))


def spot(pixels: int, pixel_um: float, middle: float) -> torch.Tensor:
    """Light of a Gaussian spot, 18 um wide and 7 um off to the right, in each pixel of a line; `middle`: index of the axis."""
    edges = (torch.arange(pixels + 1, dtype=torch.float64) - 0.5 - middle) * pixel_um
    light: torch.Tensor = torch.special.ndtr((edges - 7) / 18).diff()
    return light


def test_an_exported_model_comes_back_with_what_its_kernels_are_of(tmp_path: Path):
    model = made()
    assert isinstance(model.network, CVAE)
    export(model.network, "cvae_psf", tmp_path, {"optics": model.optics.model_dump(mode="json")})
    again = load_model(tmp_path)
    assert isinstance(again, PSFModel)
    assert again.optics == model.optics
    assert torch.equal(again.psf(FLAT_POINTS), model.psf(FLAT_POINTS))


@pytest.mark.filterwarnings("ignore:.*light falls outside")
@pytest.mark.parametrize("ks", [9, 15, 16, 64])
def test_any_size_sums_to_one_in_each_channel(ks: int):
    kernels = made().psf(FLAT_POINTS, ks=ks)
    assert kernels.shape == (2, 3, ks, ks)
    assert kernels.min() >= 0
    torch.testing.assert_close(kernels.sum(dim=(-2, -1)), torch.ones(2, 3))


def test_a_size_of_its_own_pixels_crops_or_pads_and_nothing_else():
    model = made()
    trained, padded, even = (model.psf(FLAT_POINTS, ks=ks) for ks in (None, 21, 22))
    torch.testing.assert_close(padded[..., 3:18, 3:18], trained)
    torch.testing.assert_close(even[..., 4:19, 4:19], trained)  # the middle, 7, comes to 22 // 2


@pytest.mark.parametrize("pixel_um", [4.0, 10.0, 17.0, 31.0])
@pytest.mark.parametrize("side", [15, 16])
def test_other_pixels_gather_their_own_light(pixel_um: float, side: int):
    trained = spot(side, 10.0, middle=(side - 1) / 2)
    found, lost = resampled(torch.outer(trained, trained)[None], 51, pixel_um / 10.0)
    wanted = spot(51, pixel_um, middle=25)
    error = (found[0] - torch.outer(wanted, wanted)).norm() / wanted.norm() ** 2
    assert error < 3e-3
    assert lost < 1e-6


def test_light_outside_of_a_small_kernel_is_said():
    with pytest.warns(UserWarning, match="light"):
        made().psf(FLAT_POINTS, ks=3)


def test_channels_by_wavelength():
    model = made()
    torch.testing.assert_close(model.psf(FLAT_POINTS, 0.486)[:, 0], model.psf(FLAT_POINTS)[:, 2])
    assert model.psf(FLAT_POINTS, [0.587, 0.656]).shape[1] == 2
    with pytest.raises(ValueError, match=r"0\.656, 0\.587, 0\.486"):
        model.psf(FLAT_POINTS, 0.6)


def test_a_map_has_its_top_left_patch_first():
    model = made()
    found = model.psf_map((4, 3))
    assert found.shape == (3, 4, 3, 15, 15)
    torch.testing.assert_close(found[0, 0], model.psf([-0.75, 2 / 3]))
    torch.testing.assert_close(found[2, 3], model.psf([0.75, -2 / 3]))


def test_depth_of_a_map_carries_gradients():
    model = made(DEEP, depths_mm=(-10000.0, -500.0)).double()
    depth = torch.tensor(-2000.0, dtype=torch.float64, requires_grad=True)

    def value(at: torch.Tensor) -> torch.Tensor:
        return model.psf_map((2, 2), depth=at)[0, 1, 0, 7, 7]

    (slope,) = torch.autograd.grad(value(depth), depth)
    step = (value(depth + 1.0) - value(depth - 1.0)) / 2
    torch.testing.assert_close(slope, step.detach(), rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    ("model", "points"),
    [
        (made(), [[0.0, 0.0, -1000.0]]),
        (made(), [[1.2, 0.0]]),
        (made(), [[float("nan"), 0.0]]),
        (made(DEEP, depths_mm=(-10000.0, -500.0)), [[0.0, 0.0, -400.0]]),
        (made(DEEP, depths_mm=(-10000.0, -500.0)), [[0.0, 0.0, 1000.0]]),
    ],
)
def test_points_that_the_model_knows_nothing_of_are_refused(model: PSFModel, points: list[list[float]]):
    with pytest.raises(ValueError, match="points"):
        model.psf(points)


def test_a_distance_that_the_kernels_are_not_of_is_refused():
    model = made()
    torch.testing.assert_close(model.psf_map((2, 2), depth=-10000.0), model.psf_map((2, 2)))
    with pytest.raises(ValueError, match="-10000"):
        model.psf_map((2, 2), depth=-500.0)
    with pytest.raises(ValueError, match="lens file"):
        model.psf_map((2, 2), focus=-500.0)


def test_half_precision_keeps_places_and_gives_float32_kernels():
    model = made()
    whole, half = model.psf(FLAT_POINTS), made().half().psf(FLAT_POINTS)
    assert half.dtype == torch.float32
    assert (half - whole).norm() < 5e-3 * whole.norm()


def test_samples_narrow_to_the_prediction():
    model = made()
    points = torch.tensor(FLAT_POINTS)
    drawn = [model.sample(points, one, torch.Generator().manual_seed(0)) for one in (0.0, 1.0, 2.0)]
    torch.testing.assert_close(drawn[0], model.psf(points))
    assert (drawn[1] - drawn[0]).norm() < (drawn[2] - drawn[0]).norm()


def test_one_sample_of_one_point():
    model = made()
    one = model.sample([0.0, 0.5], generator=torch.Generator().manual_seed(1), ks=17)
    several = model.sample([[0.0, 0.5]], generator=torch.Generator().manual_seed(1), ks=17)
    assert torch.equal(one, several[0])


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        ({"ks": 0}, "ks=0"),
        ({"ks": -1}, "ks=-1"),
        ({"ks": 3.5}, r"ks=3\.5"),
        ({"ks": 100_000}, "2048"),
        ({"pixel_um": 0.0}, "pixel_um"),
        ({"pixel_um": -3.0}, "pixel_um"),
        ({"pixel_um": float("nan")}, "pixel_um"),
        ({"pixel_um": 5.5e-6}, "micrometres"),
    ],
)
def test_sizes_that_no_kernel_has_are_refused_before_they_are_made(pixels: dict[str, Any], words: str):
    with pytest.raises(ValueError, match=words):
        made().psf([0.0, 0.5], **pixels)


def test_a_point_outside_is_named():
    with pytest.raises(ValueError, match=r"points\[1\] has \(1\.2, 0\)"):
        made().psf([[0.0, 0.0], [1.2, 0.0]])


@pytest.mark.parametrize("grid", [5, (0, 3), (3, 4, 5), (2.5, 2)])
def test_a_map_has_columns_and_rows(grid: Any):
    with pytest.raises(ValueError, match="columns, rows"):
        made().psf_map(grid)
