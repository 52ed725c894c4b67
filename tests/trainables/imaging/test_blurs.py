"""What operators compute: DeepLens' own function, closed forms, directions."""

import pytest
import torch
from torch import Tensor

from tests.trainables.imaging.test_operators import SIZE, image, kernels
from trainables.imaging.depth import DepthBlur, layer_depths
from trainables.imaging.low_rank import LowRankBlur
from trainables.imaging.patches import PatchBlur
from trainables.imaging.warp import Warp, pixel_places


def dot(row: int, column: int) -> Tensor:
    """A point of light in an image of one channel."""
    found = torch.zeros(1, 1, *SIZE, dtype=torch.float64)
    found[0, 0, row, column] = 1
    return found


@pytest.mark.parametrize("side", [1, 4, 9])
@pytest.mark.parametrize("size", [SIZE, (24, 16), (5, 6)])
def test_patches_are_those_of_deeplens(side: int, size: tuple[int, int]):
    import deeplens_workers.geolens  # noqa: F401  which loads DeepLens without what it draws with, and so first
    from deeplens.imgsim.psf import conv_psf_map  # isort: skip

    seen = image(size=size)
    torch.testing.assert_close(PatchBlur(kernels(side), size)(seen), conv_psf_map(seen, kernels(side)))


@pytest.mark.parametrize("side", [4, 5])
def test_a_point_becomes_its_kernel_upright_with_the_origin_in_its_place(side: int):
    kernel = kernels(side, (1, 1), 1)
    first = side // 2
    found = PatchBlur(kernel, SIZE, "zero")(dot(10, 8))[0, 0]
    torch.testing.assert_close(found[10 - first :, 8 - first :][:side, :side], kernel[0, 0, 0])
    torch.testing.assert_close(found.sum(), kernel.sum())


def test_one_kernel_everywhere_has_no_patches_and_one_component():
    kernel = kernels(6, (1, 1))
    found = PatchBlur(kernel, SIZE)(image())
    torch.testing.assert_close(PatchBlur(kernel.expand(4, 3, -1, -1, -1), SIZE)(image()), found)
    torch.testing.assert_close(LowRankBlur(kernel.expand(4, 3, -1, -1, -1), SIZE, rank=1)(image()), found)


def test_two_components_hold_kernels_that_are_mixtures_of_two():
    """With weights that are linear in x, which bilinear interpolation gives back between the outermost middles of patches."""
    one, other = kernels(5, (1, 1)), kernels(7, (1, 1))[..., 1:6, 1:6]
    other = other / other.sum(dim=(-2, -1), keepdim=True)
    share = (torch.arange(4, dtype=torch.float64) + 0.5) / 4
    mixed = torch.lerp(one, other, share.view(1, 4, 1, 1, 1))
    found = LowRankBlur(mixed, SIZE, rank=2, smooth="bilinear")(image())
    at = ((torch.arange(SIZE[1], dtype=torch.float64) + 0.5) / SIZE[1]).clamp(share[0], share[-1])
    wanted = torch.lerp(PatchBlur(one, SIZE)(image()), PatchBlur(other, SIZE)(image()), at)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("rank", [1, 3, 100])
def test_an_even_picture_stays_as_it_is_at_any_rank(rank: int):
    even = torch.full((1, 2, *SIZE), 0.3, dtype=torch.float64)
    torch.testing.assert_close(LowRankBlur(kernels(5), SIZE, rank)(even), even)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_a_warp_takes_what_is_at_the_source(mode: str):
    identity = pixel_places(SIZE)
    torch.testing.assert_close(Warp(identity, mode=mode)(image()), image())  # type: ignore[arg-type]
    right, up = 2 / SIZE[1], 2 / SIZE[0]
    moved = Warp(identity + torch.tensor([right, 2 * up], dtype=torch.float64), "zero", mode)  # type: ignore[arg-type]
    torch.testing.assert_close(moved(dot(10, 8)), dot(12, 7))


def test_the_border_of_a_warp():
    beyond = pixel_places(SIZE) * 3
    corner = image()[..., 0, 0]
    torch.testing.assert_close(Warp(beyond, "replicate")(image())[..., 0, 0], corner)
    assert not Warp(beyond, "zero")(image())[..., 0, 0].any()


def test_an_even_depth_is_the_plain_blur():
    even = torch.full((1, 1, *SIZE), -1234.5, dtype=torch.float64)
    depths = layer_depths(even, 8)
    assert depths.tolist() == pytest.approx([-1234.5])
    blur = PatchBlur(kernels(5), SIZE)
    torch.testing.assert_close(DepthBlur([blur], depths, even)(image()), blur(image()))


def test_depths_are_mixed_by_vergence_and_the_outermost_hold_beyond():
    near, far = PatchBlur(kernels(3), SIZE), PatchBlur(kernels(5), SIZE)
    depths = torch.tensor([-4000.0, -1000.0], dtype=torch.float64)

    def seen(depth: float) -> Tensor:
        return DepthBlur([far, near], depths, torch.full((1, 1, *SIZE), depth, dtype=torch.float64))(image())

    middle = 2 / (1 / depths[0] + 1 / depths[1])
    torch.testing.assert_close(seen(float(middle)), (near(image()) + far(image())) / 2)
    torch.testing.assert_close(seen(-500.0), near(image()))
    torch.testing.assert_close(seen(-9000.0), far(image()))


def test_layers_are_even_in_vergence_and_reach_the_extremes():
    depth = -1 / torch.tensor([0.1, 0.2, 0.6], dtype=torch.float64)
    torch.testing.assert_close(1 / layer_depths(depth, 6), -torch.linspace(0.1, 0.6, 6, dtype=torch.float64))
