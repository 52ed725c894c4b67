"""The convolutional encoder and decoder: sizes, shapes and what they refuse."""

from typing import get_args

import pytest
import torch

from trainables.networks.blocks import Upsampling
from trainables.networks.norms import Norm
from trainables.psf.convolutional import ConvDecoder, ConvEncoder


def test_parameters_at_the_sizes_of_the_source_document():
    parts = ConvEncoder(3, 64, 32, "batch", 256), ConvDecoder(256, 3, 64, 32, "batch", "transposed3")
    assert sum(weight.numel() for part in parts for weight in part.parameters()) == 3_937_635


@pytest.mark.parametrize("norm", get_args(Norm))
@pytest.mark.parametrize("upsampling", get_args(Upsampling))
@pytest.mark.parametrize("side", [16, 32])
@pytest.mark.parametrize("width", [3, 8])  # one is no multiple of a group's channels
def test_every_norm_and_upsampling_keeps_the_shape(norm, upsampling, side, width):
    encoder, decoder = ConvEncoder(2, side, width, norm, 5), ConvDecoder(7, 2, side, width, norm, upsampling)
    posterior = encoder(torch.rand(4, 2, side, side))
    assert posterior.mu.shape == posterior.logvar.shape == (4, 5)
    raw = decoder(torch.randn(4, 7))
    assert raw.shape == (4, 2, side, side)
    gradients = torch.autograd.grad(raw.square().sum(), list(decoder.parameters()))
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert decoder.head.weight.shape == (2, width, 3, 3)


@pytest.mark.parametrize("side", [8, 24])
def test_a_side_that_cannot_be_halved_four_times_is_refused(side):
    for build in (
        lambda: ConvEncoder(3, side, 8, "batch", 4),
        lambda: ConvDecoder(4, 3, side, 8, "batch", "bilinear"),
    ):
        with pytest.raises(ValueError, match=f"multiple of 16 for 4 halvings, but got {side}"):
            build()
