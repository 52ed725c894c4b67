"""Parts of the networks of documents 002 and 003: what is the identity at the start, what is bounded, what is redundant."""

import pytest
import torch
from torch import nn

from trainables.networks.bottleneck import ResidualBottleneck, SqueezeExcitation, Upsample
from trainables.networks.gaussian import Gaussian, gaussian_kl
from trainables.networks.residual import DownBlock, SelfAttention, SpatialHead, UpBlock
from trainables.networks.vae import standard_normal


def test_attention_starts_as_the_identity_and_learns():
    attention, x = SelfAttention(8), torch.randn(2, 8, 4, 4)
    assert torch.equal(attention(x), x)
    (gradient,) = torch.autograd.grad(attention(x).square().sum(), [attention.projection.weight])
    assert gradient.abs().max() > 0


def test_attention_sees_every_pixel_and_is_the_formula():
    attention, x = SelfAttention(8), torch.randn(1, 8, 3, 3)
    nn.init.normal_(attention.projection.weight)
    query, key, value = (one.flatten(2)[0].T for one in attention.qkv(attention.norm(x)).chunk(3, dim=1))
    seen = (query @ key.T / 8**0.5).softmax(dim=1) @ value
    expected = x + attention.projection(seen.T.view(1, 8, 3, 3))
    torch.testing.assert_close(attention(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_blocks_halve_and_double(norm):
    x = torch.randn(2, 3, 8, 8)
    assert DownBlock(3, 5, norm)(x).shape == (2, 5, 4, 4)
    for upsampling in ("bilinear", "transposed4", "transposed3"):
        for convs in (1, 2, 3):
            block = UpBlock(3, 5, norm, upsampling, convs)
            assert block(x).shape == (2, 5, 16, 16)
            assert sum(isinstance(one, nn.Conv2d | nn.ConvTranspose2d) for one in block.main.modules()) == convs


def test_normalised_paths_add_up_evenly():
    """Round 1 of document 002: without a norm in the skip the two paths would have other scales."""
    block, x = DownBlock(4, 6, "batch"), 10 * torch.randn(64, 4, 8, 8)
    scales = [path(x).std().item() for path in (block.main, block.skip)]
    assert scales == pytest.approx([1, 1], rel=0.02)


def test_a_spatial_head_starts_near_the_prior():
    """Round 2 of document 002: log-variances of +-25 at the start gave a KL of millions."""
    posterior = SpatialHead(16, 4)(torch.randn(32, 16, 8, 8))
    assert posterior.mu.shape == posterior.logvar.shape == (32, 256)
    assert gaussian_kl(posterior, standard_normal(posterior.mu)).mean() < 0.1
    assert SpatialHead(16, 4)(1e6 * torch.randn(2, 16, 8, 8)).logvar.abs().max() <= 10


def test_a_spatial_heads_numbers_lie_as_the_decoder_reads_them():
    """Channel by channel, row by row."""
    head = SpatialHead(3, 2)
    x = torch.randn(1, 3, 4, 4)
    found: Gaussian = head(x)
    expected = nn.functional.conv2d(x, head.head.weight[..., None, None], head.head.bias)
    torch.testing.assert_close(found.mu.view(1, 2, 4, 4), expected[:, :2], atol=1e-5, rtol=1e-5)


def test_squeeze_and_excitation_scales_each_channel_by_less_than_one():
    block, x = SqueezeExcitation(8, 4), 5 * torch.randn(3, 8, 4, 4)
    factors = block.factors(x)
    assert 0 < factors.min() < factors.max() < 1
    torch.testing.assert_close(block(x), x * factors[..., None, None])
    assert SqueezeExcitation(2, 4)(x[:, :2]).shape == (3, 2, 4, 4)  # one hidden unit at least


@pytest.mark.parametrize("channels", [3, 8, 64])
def test_a_bottleneck_of_layerscale_zero_is_the_identity(channels):
    x = torch.randn(2, channels, 6, 6)
    assert torch.equal(ResidualBottleneck(channels, 4, 0.0)(x), x)
    near = ResidualBottleneck(channels, 4, 1e-6)
    assert 0 < (near(x) - x).abs().max() < 1e-4
    assert ResidualBottleneck(channels, 4, 1.0)(x).sub(x).std() > 0.01


def test_an_upsampling_blocks_paths_are_no_one_convolution():
    """Document 003 has 3x3 and 1x1 convolutions of the same input: without the norm and the SiLU in the first they were one 3x3."""
    block = Upsample(3, 4)
    x, y = torch.randn(2, 3, 5, 5), torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(
        block.skip(x) + block.skip(y), block.skip(x + y) + block.skip(0 * x), atol=1e-5, rtol=1e-4
    )
    assert not torch.allclose(block.main(x) + block.main(y), block.main(x + y) + block.main(0 * x), atol=0.1)
