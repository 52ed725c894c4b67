"""Blocks: sizes, even taps, identity at the start."""

import pytest
import torch

from trainables.networks.blocks import UPSAMPLINGS, ResidualBlock, convolution, downsample, linear, twice, upsample
from trainables.networks.gaussian import LOGVAR_LIMIT, Gaussian, GaussianHead, gaussian_kl, smooth_bound


def taps(layer):
    """Weights that reach each output pixel of a row, inside."""
    for weight in layer.parameters():
        torch.nn.init.ones_(weight) if weight.ndim == 4 else torch.nn.init.zeros_(weight)
    return layer(torch.ones(1, 1, 6, 6))[0, 0, 4:8, 5].tolist()


def test_upsampling_has_even_taps_where_3x3_has_a_checkerboard():
    assert len(set(taps(upsample(1, 1)))) == 1
    assert {name: len(set(taps(make(1, 1)))) for name, make in UPSAMPLINGS.items()} == {
        "transposed3": 2,
        "transposed4": 1,
        "bilinear": 1,
    }


@pytest.mark.parametrize("name", UPSAMPLINGS)
def test_every_upsampling_doubles_the_size(name):
    assert UPSAMPLINGS[name](3, 5)(torch.rand(2, 3, 6, 6)).shape == (2, 5, 12, 12)


@pytest.mark.parametrize("resize", [twice(), torch.nn.AvgPool2d(2)], ids=["doubling", "pooling"])
def test_resizing_commutes_with_1x1_convolutions(resize):
    """So a skip goes through its 1x1 convolution where that is cheaper."""
    x, mix = torch.randn(2, 3, 6, 6), torch.nn.Conv2d(3, 4, 1)
    torch.testing.assert_close(resize(mix(x)), mix(resize(x)), atol=1e-5, rtol=1e-5)


def test_down_and_up_keep_the_shape():
    x = torch.randn(2, 3, 28, 28)
    assert downsample(3, 5)(x).shape == (2, 5, 14, 14)
    assert upsample(5, 3)(downsample(3, 5)(x)).shape == x.shape


@pytest.mark.parametrize("channels", [3, 8, 16])
def test_residual_block_starts_as_the_identity_and_learns(channels):
    block, x = ResidualBlock(channels), torch.randn(2, channels, 7, 7)
    y = block(x)
    torch.testing.assert_close(y, x)
    gradients = torch.autograd.grad(y.square().sum(), list(block.branch[-1].parameters()))
    assert all(gradient.abs().max() > 0 for gradient in gradients)


def test_residual_block_takes_samples_one_by_one():
    block, x = ResidualBlock(8), torch.randn(3, 8, 7, 7)
    for weight in block.branch[-1].parameters():
        torch.nn.init.normal_(weight)
    torch.testing.assert_close(block(x)[:1], block(x[:1]), atol=1e-4, rtol=1e-4)


def test_gaussian_head_starts_near_the_prior_and_stays_bounded():
    head = GaussianHead(50, 4)
    start = head(torch.randn(1000, 50))
    prior = Gaussian(torch.zeros(1000, 4), torch.zeros(1000, 4))
    assert gaussian_kl(start, prior).sum(dim=1).mean() < 1
    wild = head(1e6 * torch.randn(10, 50))
    assert wild.logvar.abs().max() <= LOGVAR_LIMIT
    with torch.autocast("cpu", torch.bfloat16):
        assert all(one.dtype == torch.float32 for one in head(torch.randn(10, 50)))


def test_smooth_bound_is_the_identity_in_the_middle_and_has_a_gradient_outside():
    values = torch.tensor([-30.0, -3.0, 24.0]).requires_grad_()
    bounded = smooth_bound(values, -8.0, 2.0)
    assert bounded[1].item() == -3
    assert -8 <= bounded.min() < bounded.max() <= 2
    slopes = torch.autograd.grad(bounded.sum(), values)[0]
    assert slopes[1].item() == 1
    assert (slopes > 0).all()


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (linear(64, 500), (500, 64)),
        (convolution(16, 16), (8, 16, 16, 16)),
        (downsample(16, 16), (8, 16, 16, 16)),
        (upsample(16, 16), (8, 16, 16, 16)),
    ],
)
def test_layers_keep_the_variance_through_a_silu(layer, shape):
    y = torch.nn.functional.silu(layer(torch.randn(shape)))[..., 1:-1]
    assert 0.8 < y.square().mean().sqrt() < 1.25
