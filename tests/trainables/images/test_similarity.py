import pytest
import torch
from skimage.metrics import structural_similarity
from torch.nn import functional as F

from trainables.images.frechet import fit_components, frechet_distance
from trainables.images.similarity import WEIGHTS, ms_ssim, psnr, scales
from trainables.training.ssim import ssim


def pair(channels: int = 3, px: int = 32, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    smooth = F.avg_pool2d(torch.rand(4, channels, px + 4, px + 4, generator=generator), 5, stride=1)
    return smooth, (smooth + 0.1 * torch.randn(smooth.shape, generator=generator)).clamp(0, 1)


@pytest.mark.parametrize(("channels", "px"), [(1, 11), (1, 28), (3, 32), (3, 64)])
def test_ssim_is_that_of_scikit_image(channels, px):
    true, other = pair(channels, px)
    expected = [
        structural_similarity(
            a.double().numpy(),
            b.double().numpy(),
            channel_axis=0,
            data_range=1.0,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for a, b in zip(other, true, strict=True)
    ]
    assert ssim(other.double(), true.double()).tolist() == pytest.approx(expected, abs=1e-6)


def test_equal_images_are_alike_at_every_scale():
    true, other = pair(px=64)
    for measure in (ssim, ms_ssim):
        torch.testing.assert_close(measure(true, true), torch.ones(4))
        assert (measure(other, true) < 0.99).all()
        torch.testing.assert_close(measure(other, true), measure(true, other))


def test_ms_ssim_of_one_scale_is_ssim_and_of_more_the_weighted_product():
    true, other = pair(px=16)
    assert scales(16) == 1
    torch.testing.assert_close(ms_ssim(other, true), ssim(other, true))
    assert [scales(px) for px in (4, 28, 32, 64, 256)] == [1, 2, 2, 3, 5]
    # A change of brightness leaves contrast and structure, which are all that the finer scale is looked at for.
    true, _ = pair(px=32)
    darker = true - 0.2
    coarse = ssim(F.avg_pool2d(darker, 2), F.avg_pool2d(true, 2))
    share = WEIGHTS[1] / (WEIGHTS[0] + WEIGHTS[1])
    torch.testing.assert_close(ms_ssim(darker, true), coarse**share, rtol=1e-4, atol=1e-4)


def test_images_smaller_than_a_window_have_a_smaller_one():
    true, other = torch.rand(3, 1, 4, 4), torch.rand(3, 1, 4, 4)
    assert ssim(other, true).isfinite().all()
    torch.testing.assert_close(ssim(true, true), torch.ones(3))


def test_psnr_of_a_known_error():
    found = psnr(torch.full((2, 1, 4, 4), 0.6), torch.full((2, 1, 4, 4), 0.5))
    assert found.tolist() == pytest.approx([20, 20], abs=1e-3)
    assert psnr(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 4, 4)).tolist() == pytest.approx([100])


def test_the_frechet_distance_of_gaussians_is_its_closed_form():
    torch.manual_seed(0)
    a = torch.randn(50_000, 2, dtype=torch.float64)
    b = torch.tensor([1.0, 0.0]) + torch.randn(50_000, 2, dtype=torch.float64) * torch.tensor([2.0, 1.0])
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, b) == pytest.approx(1 + (2 - 1) ** 2, abs=0.06)
    turned = torch.linalg.qr(torch.randn(2, 2, dtype=torch.float64))[0]
    assert frechet_distance(a @ turned, b @ turned) == pytest.approx(frechet_distance(a, b))


def test_components_are_the_principal_ones():
    torch.manual_seed(0)
    images = (torch.randn(300, 3) * torch.tensor([5.0, 2.0, 1.0]) @ torch.randn(3, 48)).view(300, 3, 4, 4)
    scores = fit_components(images).of(images)
    values = images.flatten(1) - images.flatten(1).mean(dim=0)
    assert float(scores.square().sum() / values.square().sum()) == pytest.approx(1, abs=1e-4)
    assert scores.shape == (300, 48)
    assert torch.equal(fit_components(images).directions, fit_components(images).directions)
