"""Pictures through a model: places and distances of kernels, distortion there and back, gradients, refusals."""

import pytest
import torch
from torch import Tensor, nn

from deeplens_workers.kernel_optics import Distortion
from tests.trainables.psf.test_model import optics
from trainables.psf.model import PSFModel

PX = 11
DEPTHS = (-10000.0, -500.0)


class Spots(nn.Module):
    """Gaussian spots, wider to the right and to the top, and with the depth's vergence in diopters."""

    def __init__(self) -> None:
        super().__init__()
        self.narrowest = nn.Parameter(torch.tensor(0.5))

    def predict(self, points: Tensor) -> Tensor:
        width = self.narrowest + 0.2 * (points[:, 0] + 1) + 0.4 * (points[:, 1] + 1)
        if points.shape[1] > 2:
            width = width - 0.3 * 1000 / points[:, 2]
        axis = torch.arange(PX, dtype=points.dtype) - PX // 2
        line = (-axis.square() / (2 * width[:, None].square())).exp()
        found = (line[:, :, None] * line[:, None, :])[:, None].expand(-1, 3, -1, -1)
        return found / found.sum(dim=(-2, -1), keepdim=True)


def model(stretch: float = 1.0, deep: bool = False) -> PSFModel:
    """Ideal image points are `stretch` times as far from the middle as where they are seen."""
    distorted = () if stretch == 1 else (distortion(stretch),)
    facts = {"kernel_px": PX, "pixel_um": 250.0, "distortion": distorted, "depths_mm": DEPTHS if deep else DEPTHS[:1]}
    return PSFModel(Spots().requires_grad_(False), optics(**facts))


def distortion(stretch: float) -> Distortion:
    x, y = ((0.0, 0.0), (stretch, 0.0)), ((0.0, stretch), (0.0, 0.0))
    return Distortion(depth_mm=DEPTHS[0], focus_mm=None, x=x, y=y, error_um=0.0)


def scene(size: tuple[int, int] = (64, 96)) -> Tensor:
    """Smooth, so that its resampling costs little."""
    y, x = (torch.linspace(-1, 1, n) for n in size)
    wave = 0.5 + 0.2 * (7 * x).sin() + 0.2 * (9 * y[:, None] + 2 * x).cos()
    return torch.stack([wave, wave.flip(0), wave.flip(1)])[None]


def points_of_light(*places: tuple[int, int], size: tuple[int, int] = (64, 96)) -> Tensor:
    found = torch.zeros(1, 3, *size)
    for row, column in places:
        found[..., row, column] = 1
    return found


@pytest.mark.parametrize("options", [{}, {"rank": 6}])
def test_each_place_has_its_own_kernel(options: dict[str, int]):
    """The trained pixels are those of the picture: 24 mm over 96 pixels of 250 um."""
    top_right, bottom_left = (9, 82), (54, 13)
    seen = model().render(points_of_light(top_right, bottom_left), grid=(12, 8), **options)
    for (row, column), xy in (
        (top_right, (2 * 82.5 / 96 - 1, 1 - 2 * 9.5 / 64)),
        (bottom_left, (2 * 13.5 / 96 - 1, 1 - 2 * 54.5 / 64)),
    ):
        kernel = model().psf([list(xy)])[0]
        found = seen[0, :, row - 5 : row + 6, column - 5 : column + 6]
        assert (found - kernel).norm() < 0.1 * kernel.norm()


def test_a_picture_is_distorted_before_it_is_blurred():
    """What is seen halfway out is the ideal point at 0.9 of the way, with the kernel of that."""
    column, row = 81, 9
    ideal = (round((2 * 81.5 / 96 - 1) * 0.9 * 48 + 47.5), round((2 * 9.5 / 64 - 1) * 0.9 * 32 + 31.5))
    seen = model(0.9).render(points_of_light((ideal[1], ideal[0])))[0, 0]
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(96.0), indexing="ij")
    assert float((seen * rows).sum() / seen.sum()) == pytest.approx(row, abs=0.6)
    assert float((seen * columns).sum() / seen.sum()) == pytest.approx(column, abs=0.6)
    undistorted = model(0.9).render(points_of_light((row, column)), distortion=False)[0, 0]
    assert int(undistorted.argmax()) == 96 * row + column


def test_restoring_undoes_the_lens_and_its_distortion():
    lens = model(1.05)
    seen = lens.render(scene())
    found = lens.restore(seen, iterations=10)
    inside = (..., slice(6, -6), slice(6, -6))
    assert (found - scene())[inside].norm() < 0.2 * (seen - scene())[inside].norm()
    sharp = lens.restore(seen, method="wiener", noise=1e-3)
    warped = model(1.05).operator((64, 96)).operators[0](scene())  # type: ignore[attr-defined]
    assert (sharp - warped)[inside].norm() < 0.5 * (seen - warped)[inside].norm()


@pytest.mark.parametrize("stretch", [1.0, 0.95])
def test_an_even_map_of_depths_is_one_depth(stretch: float):
    lens = model(stretch, deep=True)
    even = torch.full((1, 1, 64, 96), -800.0)
    torch.testing.assert_close(lens.render(scene(), depth=even), lens.render(scene(), depth=-800.0))


def test_near_and_far_have_their_own_blur():
    lens = model(deep=True)
    depth = torch.full((1, 1, 64, 96), -10000.0)
    depth[..., 48:] = -500.0
    seen, far, near = (lens.render(scene(), depth=one) for one in (depth, -10000.0, -500.0))
    torch.testing.assert_close(seen[..., :48], far[..., :48])
    torch.testing.assert_close(seen[..., 48:], near[..., 48:])


def test_a_depth_carries_gradients():
    lens = model(deep=True)
    depth = torch.tensor(-1000.0, requires_grad=True)
    (slope,) = torch.autograd.grad(lens.render(scene(), depth=depth).square().sum(), depth)
    assert slope < 0  # nearer is blurrier here: less contrast as the depth rises to 0


def test_finer_pixels_are_the_middle_of_the_sensor():
    """A picture of pixels of half the size covers a quarter of the field."""
    fine, xy = (
        model().render(points_of_light((8, 80)), pixel_um=125.0),
        (0.5 * (2 * 80.5 / 96 - 1), 0.5 * (1 - 2 * 8.5 / 64)),
    )
    kernel = model().psf([list(xy)], ks=15, pixel_um=125.0)[0]
    found = fine[0, :, 1:16, 73:88]
    assert (found - kernel).norm() < 0.1 * kernel.norm()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"pixel_um": 400.0}, "pixel_um"),
        ({"depth": -500.0}, "depth_mm"),
        ({"depth": torch.full((64, 96), -500.0)}, "depth"),
        ({"border": "mirror"}, "border"),
    ],
)
def test_what_does_not_go_with_the_picture_is_refused(options: dict[str, object], words: str):
    with pytest.raises(ValueError, match=words):
        model().render(scene(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "picture",
    [
        "photo.png",
        scene().numpy(),
        scene()[0],
        scene()[:, :1],
        scene().mul(255).byte(),
    ],
)
def test_what_is_no_picture_of_light_is_refused(picture: object):
    for call in (model().render, model().restore):
        with pytest.raises(ValueError, match="read_picture"):
            call(picture)  # type: ignore[arg-type]


def test_more_patches_than_pixels_are_refused_before_their_kernels_are_made():
    with pytest.raises(ValueError, match="grid"):
        model().render(scene(), grid=(600, 600))


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="wiener"):
        model().restore(scene(), method="magic")  # type: ignore[arg-type]


@torch.no_grad()
def test_a_lens_of_deeplens_renders_as_the_model_does():
    """The two renderers share no code: `deeplens_workers` may import neither this package nor its operators."""
    lens = model(1.05).to_lens()
    picture = scene((lens.sensor_res[1], lens.sensor_res[0]))
    seen = model(1.05).render(picture, pixel_um=1e3 * lens.pixel_size)
    torch.testing.assert_close(lens.render(picture), seen, atol=1e-4, rtol=0)


def test_beyond_a_black_border_distances_go_on():
    """What is seen there is black whatever its distance, and none is refused."""
    depth = torch.full((1, 1, 64, 96), DEPTHS[0])
    depth[..., 48:] = DEPTHS[1]
    lens = model(1.1, deep=True)
    seen = lens.render(torch.ones(1, 3, 64, 96), depth=depth, border="zero")
    assert seen[..., 32, 0].max() < 0.1
    torch.testing.assert_close(seen[..., 20:44, 20:76], torch.ones(1, 3, 24, 56))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_a_picture_of_half_precision_is_rendered_in_single(kind: torch.dtype):
    lens, picture = model(0.9), scene().to(kind)
    assert torch.equal(lens.render(picture), lens.render(picture.float()))
    assert torch.equal(lens.restore(picture, method="wiener"), lens.restore(picture.float(), method="wiener"))


def test_a_lens_of_unknown_distortion_renders_without_it():
    unknown = model()
    unknown.optics = unknown.optics.model_copy(update={"distortion": None})
    with pytest.raises(ValueError, match="not known"):
        unknown.render(scene())
    assert torch.equal(unknown.render(scene(), distortion=False), model().render(scene(), distortion=False))
