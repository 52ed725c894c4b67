"""The image of a model's kernels: what stands where, on which scale."""

import pytest
import torch

from tests.trainables.psf.synthetic import tensors
from trainables.psf.cvae import CVAE, CvaeConfig
from trainables.psf.pictures import COLUMNS, FULL_RESIDUAL, GAMMA, GAP_GREY, GAP_PX, comparison_image, psf_image

TRUE, RECONSTRUCTED, PREDICTED, RESIDUAL = range(4)


def kernels(count: int = 2, channels: int = 3, side: int = 15) -> torch.Tensor:
    """Unit-sum kernels [N, C, K, K] with their peak in the middle, highest in the first channel."""
    values = torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(0))
    values[:, :, side // 2, side // 2] = torch.linspace(20, 10, channels)
    return values / values.sum(dim=(2, 3), keepdim=True)


def tile(image: torch.Tensor, row: int, column: int, side: int = 15, times: int = 8) -> torch.Tensor:
    """The kernel's pixels [3, K, K] of a tile, each of which must be repeated."""
    pitch = side * times + GAP_PX
    top, left = (GAP_PX + place * pitch for place in (row, column))
    shown = image[:, top : top + side * times, left : left + side * times]
    blocks = shown.unfold(1, times, times).unfold(2, times, times)
    assert torch.equal(blocks.amin(dim=(3, 4)), blocks.amax(dim=(3, 4)))
    return blocks[..., 0, 0]


@pytest.mark.parametrize(("side", "times"), [(15, 8), (9, 13), (64, 1), (200, 1)])
def test_every_tile_is_about_as_large_whatever_the_kernels(side, times):
    true = kernels(side=side)
    image = comparison_image(true, true, true)
    pitch = side * times + GAP_PX
    assert image.shape == (3, 4 * pitch + GAP_PX, 2 * pitch + GAP_PX)
    assert image.dtype == torch.float32
    assert image.min() >= 0
    assert image.max() <= 1
    for edge in (image[:, :GAP_PX], image[:, -GAP_PX:], image[:, :, :GAP_PX], image[:, :, -GAP_PX:]):
        assert (edge == GAP_GREY).all()
    tile(image, RESIDUAL, 1, side, times)


def test_rows_share_the_scale_of_the_true_kernel_s_peak_over_all_channels():
    true = kernels()
    image = comparison_image(true, true / 2, 3 * true)
    for column in range(2):
        shown = tile(image, TRUE, column)
        assert torch.allclose(shown, (true[column] / true[column].max()) ** GAMMA)
        assert shown[0].max() == 1
        assert shown[2].max() < 0.95  # a fainter channel is shown fainter
        assert torch.allclose(tile(image, RECONSTRUCTED, column), shown * 0.5**GAMMA)
        assert tile(image, PREDICTED, column).max() == 1  # brighter than the true peak: cut off


def test_no_difference_is_mid_grey_and_its_sign_is_seen():
    true = kernels()
    peak = true.amax(dim=(1, 2, 3), keepdim=True)
    assert (tile(comparison_image(true, 0 * true, true), RESIDUAL, 1) == 0.5).all()
    predicted = true.clone()
    shares = torch.tensor([0.5, -0.5, 1.0, -1.0, 3.0, -3.0]) * FULL_RESIDUAL
    predicted[:, 0, 0, :6] += shares * peak[:, 0, 0]
    shown = tile(comparison_image(true, true, predicted), RESIDUAL, 0)
    assert torch.allclose(shown[0, 0, :6], torch.tensor([0.75, 0.25, 1.0, 0.0, 1.0, 0.0]), atol=1e-4)
    assert torch.allclose(shown[1:], torch.tensor(0.5), atol=1e-4)  # only red differs


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_numbers_of_channels_show_the_first_in_grey(channels):
    true = kernels(channels=channels)
    shown = tile(comparison_image(true, true, true), TRUE, 0)
    assert torch.allclose(shown, ((true[0] / true[0].max()) ** GAMMA)[:1].expand(3, -1, -1))


@pytest.mark.parametrize("held_out", [40, 2])
def test_a_model_is_shown_at_held_out_positions(tmp_path, held_out):
    data = tensors(tmp_path, held_out=held_out)
    torch.manual_seed(0)
    model = CVAE(CvaeConfig(2, 9, {}, latent_dim=3, hidden_dim=8, num_layers=1, fourier_bands=1))
    image = psf_image(model, data)
    assert image.shape[2] == min(COLUMNS, held_out) * (9 * 13 + GAP_PX) + GAP_PX
    assert not image.requires_grad
    assert image.max() == 1
    rows = [tile(image, row, 0, 9, 13) for row in range(4)]
    assert not any(torch.equal(rows[TRUE], row) for row in rows[1:])
