"""Every operator's adjoint is its transpose to rounding, borders included; gradients; refusals."""

from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor

from trainables.imaging.borders import Border
from trainables.imaging.depth import DepthBlur, layer_depths
from trainables.imaging.low_rank import LowRankBlur
from trainables.imaging.operators import Chain, Operator
from trainables.imaging.patches import PatchBlur
from trainables.imaging.warp import Warp, pixel_places

SIZE = (23, 17)


def kernels(side: int, grid: tuple[int, int] = (3, 4), channels: int = 2) -> Tensor:
    """A map of random kernels of unit sum."""
    found = torch.rand(*grid, channels, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(side))
    return found / found.sum(dim=(-2, -1), keepdim=True)


def image(batch: int = 2, seed: int = 0, size: tuple[int, int] = SIZE) -> Tensor:
    return torch.rand(batch, 2, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def places() -> Tensor:
    """Sources within the image and beyond it."""
    found = pixel_places(SIZE)
    return 1.2 * found + 0.1 * found.flip(-1).sin()


def depth() -> Tensor:
    return -500 - 4000 * image(seed=5)[:, :1]


OPERATORS: dict[str, Callable[[Tensor, Border], Operator]] = {
    "patches": lambda k, border: PatchBlur(k, SIZE, border),
    "low rank": lambda k, border: LowRankBlur(k, SIZE, 5, border),
    "low rank, bilinear": lambda k, border: LowRankBlur(k, SIZE, 5, border, "bilinear"),
    "warp": lambda k, border: Warp(places(), border),
    "bicubic warp": lambda k, border: Warp(places(), border, "bicubic"),
    "warp, then patches": lambda k, border: Chain(Warp(places(), border), PatchBlur(k, SIZE, border)),
    "depth": lambda k, border: DepthBlur(
        [PatchBlur(k.roll(i, 0), SIZE, border) for i in range(3)], layer_depths(depth(), 3), depth()
    ),
}


@pytest.mark.parametrize("border", get_args(Border))
@pytest.mark.parametrize("side", [1, 4, 9, 12])  # odd, even, larger than a patch
@pytest.mark.parametrize("name", OPERATORS)
def test_the_adjoint_is_the_transpose(name: str, side: int, border: Border):
    operator, x, y = OPERATORS[name](kernels(side), border), image(seed=1), image(seed=2)
    forth, back = (operator(x) * y).sum(), (x * operator.adjoint(y)).sum()
    assert abs(forth - back) <= 1e-14 * forth.abs()


@pytest.mark.parametrize("name", OPERATORS)
def test_the_derivative_of_an_operator_is_its_adjoint_and_the_other_way_round(name: str):
    operator, x, y = OPERATORS[name](kernels(4), "reflect"), image(seed=1).requires_grad_(), image(seed=2)
    (found,) = torch.autograd.grad(operator(x), x, y)
    torch.testing.assert_close(found, operator.adjoint(y))
    (found,) = torch.autograd.grad(operator.adjoint(x), x, y)
    torch.testing.assert_close(found, operator(y))


def test_gradients_reach_the_kernels_both_ways():
    seen = image(1, size=(5, 6))[:, :1]

    def both(k: Tensor) -> Tensor:
        blur = PatchBlur(k, (5, 6))
        return blur.adjoint(blur(seen))

    assert torch.autograd.gradcheck(both, kernels(3, (2, 2), 1).requires_grad_())


def test_gradients_reach_the_kernels_through_the_weights_of_a_low_rank():
    """Along kernels that are sums of the same components the derivative is that of all of it."""
    k = kernels(3, (2, 2))
    along = k.flip(0) - k

    def value(step: Tensor) -> Tensor:
        return LowRankBlur(k + step * along, SIZE, 4)(image()).square().sum()

    step = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(value(step), step)
    torch.testing.assert_close(slope, (value(step + 1e-5) - value(step - 1e-5)).detach() / 2e-5, rtol=1e-6, atol=1e-6)


def test_a_warp_in_half_precision_keeps_its_places():
    """Rounded to half precision they would be off by up to half a pixel of a wide image, and its stripes with them."""
    wide = Warp(0.95 * pixel_places((1, 2400)))
    stripes = (0.8 * torch.arange(2400.0)).sin().expand(1, 1, 1, -1)
    assert (wide(stripes.half()) - wide(stripes.half().float())).abs().max() < 1e-3
    assert wide(stripes.half()).dtype == torch.float16


def test_gradients_reach_the_depths():
    away = depth()

    def value(d: Tensor) -> Tensor:
        blurs = [PatchBlur(kernels(3).roll(i, 0), SIZE) for i in range(2)]
        return DepthBlur(blurs, torch.tensor([-6000.0, -400.0], dtype=torch.float64), d)(image())

    moved = away.clone().requires_grad_()
    (slope,) = torch.autograd.grad(value(moved).sum(), moved)
    step = (value(away + 0.01) - value(away - 0.01)).sum(dim=1, keepdim=True) / 0.02
    torch.testing.assert_close(slope, step, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PatchBlur(kernels(3)[0], SIZE), "rows, columns, C, k, k"),
        (lambda: PatchBlur(kernels(3), (2, 17)), "more than"),
        (lambda: PatchBlur(kernels(3), SIZE, "mirror"), "reflect, replicate, zero"),  # type: ignore[arg-type]
        (lambda: PatchBlur(kernels(40), SIZE), "wider than the image"),
        (lambda: PatchBlur(kernels(3), SIZE)(image()[:, :1]), "2, 23, 17"),
        (lambda: LowRankBlur(kernels(3), SIZE, 0), "rank"),
        (lambda: Warp(places()[0]), "H, W, 2"),
        (lambda: Warp(places())(image(size=(17, 23))), "23, 17"),
        (lambda: layer_depths(-depth(), 3), "negative"),
        (lambda: DepthBlur([], torch.tensor([]), depth()), "each operator"),
    ],
)
def test_what_does_not_go_together_is_refused(make: Callable[[], object], words: str):
    with pytest.raises(ValueError, match=words):
        make()
