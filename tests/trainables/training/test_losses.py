"""Loss terms that all systems share, against closed forms."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from spaces.trial import Trial
from tests.trainables.psf.synthetic import grid
from trainables.networks.gaussian import Gaussian, gaussian_kl
from trainables.psf.data import neighbour_pairs
from trainables.training.losses import Ranks, free_bits, kl_loss, squared_distance


def test_kl_agrees_with_torch_distributions():
    torch.manual_seed(0)
    q, p = (Gaussian(torch.randn(5, 3).double(), 2 * torch.randn(5, 3).double()) for _ in range(2))
    expected = kl_divergence(Normal(q.mu, (q.logvar / 2).exp()), Normal(p.mu, (p.logvar / 2).exp()))
    torch.testing.assert_close(gaussian_kl(q, p), expected)
    torch.testing.assert_close(gaussian_kl(q, q), torch.zeros_like(expected))  # a learned prior that is the posterior


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


@pytest.mark.parametrize("weight", [0.5, torch.tensor(0.5)])  # a tensor while a rate is steered
def test_the_weighted_kl_and_the_numbers_that_go_with_it(weight):
    kl = torch.tensor([[0.2, 1.0, 0.6]] * 4, requires_grad=True)
    penalty, values = kl_loss(Trial(batch_size=4, free_bits=0.3), kl, weight, Ranks())
    assert {name: value.item() for name, value in values.items()} == pytest.approx(
        {"kl": 1.8, "kl_free": 1.9, "effective_beta": 0.5}
    )
    assert penalty.item() == pytest.approx(0.5 * 1.9)
    (gradient,) = torch.autograd.grad(penalty, kl)
    torch.testing.assert_close(gradient, torch.tensor([[0.0, 0.5 / 4, 0.5 / 4]] * 4))


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
