"""Loss terms against closed forms."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from tests.trainables.psf.synthetic import grid
from trainables.networks.gaussian import Gaussian, gaussian_kl
from trainables.psf.data import neighbour_pairs
from trainables.psf.trial import CvaePsfTrial
from trainables.training.losses import Terms, free_bits, gaussian_nll, squared_distance, weighted_loss


def test_kl_agrees_with_torch_distributions():
    torch.manual_seed(0)
    q, p = (Gaussian(torch.randn(5, 3).double(), 2 * torch.randn(5, 3).double()) for _ in range(2))
    expected = kl_divergence(Normal(q.mu, (q.logvar / 2).exp()), Normal(p.mu, (p.logvar / 2).exp()))
    torch.testing.assert_close(gaussian_kl(q, p), expected)


@pytest.mark.parametrize(("mean", "nats"), [(0.0, 0.0), (1.0, 0.5), (2.0, 2.0)])
def test_kl_of_a_shifted_unit_gaussian_is_half_its_squared_mean(mean, nats):
    q, p = Gaussian(torch.full((2, 4), mean), torch.zeros(2, 4)), Gaussian(torch.zeros(2, 4), torch.zeros(2, 4))
    torch.testing.assert_close(gaussian_kl(q, p), torch.full((2, 4), nats))


def test_free_bits_hold_on_the_batch_mean_of_each_dimension():
    kl = torch.tensor([[0.0, 0.04], [0.2, 0.04]], requires_grad=True)
    value = free_bits(kl.mean(dim=0), 0.05, "dimension")
    assert value.item() == pytest.approx(0.1 + 0.05)
    value.backward()
    # Above the floor every sample has a gradient, also the one that lies below it; an elementwise clamp would give it none.
    torch.testing.assert_close(kl.grad, torch.tensor([[0.5, 0.0], [0.5, 0.0]]))
    elementwise = torch.autograd.grad(kl.clamp_min(0.05).mean(dim=0).sum(), kl)[0]
    torch.testing.assert_close(elementwise, torch.tensor([[0.0, 0.0], [0.5, 0.0]]))


def test_free_bits_per_sample_hold_on_the_total():
    kl = torch.tensor([0.04, 0.07], requires_grad=True)
    assert free_bits(kl, 0.2, "sample").item() == pytest.approx(0.2)
    value = free_bits(kl, 0.1, "sample")
    assert value.item() == pytest.approx(0.11)
    torch.testing.assert_close(torch.autograd.grad(value, kl)[0], torch.ones(2))


def test_smoothness_of_a_plane_is_the_mean_squared_step():
    """mu = A c on a square grid of pitch h: steps (h, 0), (0, h), (h, h), (-h, h), each ||A step||^2."""
    torch.manual_seed(0)
    slope, side = torch.randn(2, 7), 5
    pitch = 2 / (side - 1)
    points = torch.from_numpy(grid(side))
    pairs = torch.from_numpy(neighbour_pairs(points.numpy()))
    mu = points[:, :2] @ slope
    steps = torch.tensor([[pitch, 0.0], [0.0, pitch], [pitch, pitch], [-pitch, pitch]])
    counts = torch.tensor([side * (side - 1)] * 2 + [(side - 1) ** 2] * 2)
    expected = ((steps @ slope).square().sum(dim=1) * counts).sum() / counts.sum()
    torch.testing.assert_close(squared_distance(mu[pairs[:, 0]], mu[pairs[:, 1]]).mean(), expected)


def test_weighted_loss_is_the_documented_sum():
    trial = CvaePsfTrial(
        batch_size=4, smooth_pairs=2, recon_scale=1e3, kl_weight=0.1, smooth_weight=0.5, free_bits=0.3, latent_dim=2
    )
    terms = Terms(mse=torch.full((4,), 2e-3), kl=torch.tensor([[0.2, 1.0]] * 4), smooth=torch.tensor([1.0, 3.0]))
    values = {name: value.item() for name, value in weighted_loss(terms, trial, 0.05, 10).items()}
    assert values == pytest.approx(
        {
            "mse": 2e-3,
            "kl": 1.2,
            "kl_free": 1.3,
            "smooth": 2.0,
            "decoder_variance": 10 / 2e3,
            "effective_beta": 0.05 * 10 / 2e3,
            "loss": 1e3 * 2e-3 + 0.05 * 1.3 + 0.5 * 2.0,
        }
    )


def test_the_mean_reduction_counts_the_kl_per_latent_dimension():
    terms = Terms(mse=torch.zeros(4), kl=torch.tensor([[0.2, 1.0, 0.6]] * 4), smooth=torch.zeros(2))
    sizes = {"batch_size": 4, "smooth_pairs": 2, "latent_dim": 3}
    losses = [
        weighted_loss(terms, CvaePsfTrial(kl_reduction=reduction, **sizes), 0.5, 10)  # type: ignore[arg-type]
        for reduction in ("sum", "mean")
    ]
    assert [loss["loss"].item() for loss in losses] == pytest.approx([0.5 * 1.8, 0.5 * 0.6])
    assert losses[1]["kl"].item() == pytest.approx(1.8)  # reported in nats per sample, whatever the reduction
    assert losses[1]["effective_beta"] == pytest.approx(losses[0]["effective_beta"] / 3)


def test_the_likelihood_of_a_given_variance_is_the_normal_distribution_s():
    error, variance = torch.linspace(-0.1, 0.2, 50).double(), torch.tensor(0.003).double()
    exact = -Normal(0.0, variance.sqrt()).log_prob(error).sum()
    constant = 25 * math.log(2 * math.pi)
    assert gaussian_nll(error.square().mean(), variance.log(), 50) + constant == pytest.approx(exact)


def test_the_optimal_variance_is_the_best_that_a_learned_one_can_become():
    trial = {"batch_size": 3, "smooth_pairs": 2, "latent_dim": 1, "kl_weight": 1.0, "smooth_weight": 0.0}
    mse = torch.tensor([1e-4, 2e-4, 6e-4], requires_grad=True)
    other = {"kl": torch.zeros(3, 1), "smooth": torch.zeros(2)}
    optimal = weighted_loss(
        Terms(mse=mse, **other),
        CvaePsfTrial(decoder_variance="optimal", **trial),  # type: ignore[arg-type]
        1.0,
        10,
    )
    assert optimal["decoder_variance"].item() == pytest.approx(3e-4)
    logvars = [math.log(3e-4) + shift for shift in (-0.1, 0.0, 0.1)]
    learned = [
        weighted_loss(
            Terms(mse=mse.detach(), **other, logvar=torch.tensor(logvar)),
            CvaePsfTrial(decoder_variance="learned", **trial),  # type: ignore[arg-type]
            1.0,
            10,
        )["loss"].detach()
        for logvar in logvars
    ]
    assert learned[1].item() == pytest.approx(optimal["loss"].item())
    assert learned[1] < min(learned[0], learned[2])
    (gradient,) = torch.autograd.grad(optimal["loss"], mse)
    assert gradient.tolist() == pytest.approx([10 / (2 * 3e-4) / 3] * 3)  # as with that variance fixed


def test_recon_scale_is_a_gaussian_decoder_and_effective_beta_its_kl_weight():
    elements, scale, kl_weight = 675, 1e4, 1e-3
    error = torch.full((elements,), 0.01).double()
    kl = 3.0

    def negative_elbo(std: float, beta: float) -> float:
        normal = Normal(torch.zeros_like(error), std)
        constant = elements * math.log(std * math.sqrt(2 * math.pi))
        return float(-normal.log_prob(error).sum()) - constant + beta * kl

    loss = scale * float(error.square().mean()) + kl_weight * kl
    assert negative_elbo(math.sqrt(elements / (2 * scale)), kl_weight) == pytest.approx(loss)
    # With unit variance the same loss, up to a factor, has the KL weighted by the effective beta.
    terms = Terms(mse=torch.zeros(1), kl=torch.zeros(1, 1), smooth=torch.zeros(1))
    trial = CvaePsfTrial(batch_size=1, smooth_pairs=1, latent_dim=1, recon_scale=scale)
    unit = negative_elbo(1.0, float(weighted_loss(terms, trial, kl_weight, elements)["effective_beta"]))
    assert unit * 2 * scale / elements == pytest.approx(loss)
