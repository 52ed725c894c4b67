"""Bounds on log p(x) against the exact value of a linear-Gaussian model."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from trainables.networks.gaussian import Gaussian
from trainables.networks.vae import log_prior_ratio
from trainables.training.bounds import StreamedIwae, elbo, iwae
from trainables.training.likelihoods import SharedGaussian
from trainables.training.scales import FixedScale

D, L, SIGMA, SAMPLES = 8, 3, 0.5, 1024


def linear_gaussian():
    """x ~ N(W z + 1/2, sigma^2), z ~ N(0, I), with a mean-field q(z|x): log-weights [100, SAMPLES] and log p(x) [100]."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(D, L, generator=generator).double()
    covariance = weight @ weight.T + SIGMA**2 * torch.eye(D).double()
    model = MultivariateNormal(torch.full((D,), 0.5).double(), covariance)
    z, e = torch.randn(100, L, generator=generator).double(), torch.randn(100, D, generator=generator).double()
    x = 0.5 + z @ weight.T + SIGMA * e
    precision = torch.eye(L).double() + weight.T @ weight / SIGMA**2
    mu = torch.linalg.solve(precision, weight.T @ (x - 0.5).T / SIGMA**2).T
    posterior = Gaussian(mu, -precision.diag().log().expand_as(mu))
    noise = torch.randn(100, SAMPLES, L, generator=generator).double()
    samples = posterior.mu[:, None] + (0.5 * posterior.logvar).exp()[:, None] * noise
    likelihood = SharedGaussian(FixedScale(SIGMA)).double()
    log_likelihood = likelihood.log_prob((samples @ weight.T).flatten(0, 1), x.repeat_interleave(SAMPLES, dim=0))
    return log_likelihood.view(100, SAMPLES) + log_prior_ratio(posterior, noise), model.log_prob(x)


def test_iwae_rises_from_the_elbo_to_the_exact_value():
    log_weights, exact = linear_gaussian()
    means = [
        torch.stack([iwae(part) for part in log_weights.split(k, dim=1)]).mean().item() for k in (1, 4, 16, 64, 256)
    ]
    assert means[0] == pytest.approx(elbo(log_weights).mean().item(), abs=1e-9)
    assert means == sorted(means)
    assert means[0] < exact.mean() - 0.05
    assert means[-1] == pytest.approx(exact.mean().item(), abs=0.005)


def test_chunks_make_no_difference():
    log_weights = 100 * torch.randn(5, 64).double()
    streamed = StreamedIwae()
    for chunk in log_weights.split((1, 30, 33), dim=1):
        streamed.add(chunk)
    torch.testing.assert_close(streamed.value(), iwae(log_weights), rtol=1e-14, atol=1e-12)


def test_nothing_added_is_told():
    with pytest.raises(ValueError, match="no log-weights"):
        StreamedIwae().value()


def test_one_sample_is_the_elbo_and_huge_weights_do_not_overflow():
    log_weights = torch.tensor([[-5000.0], [5000.0]])
    torch.testing.assert_close(iwae(log_weights), elbo(log_weights))
    assert iwae(torch.tensor([[1000.0, 1000.0]])).item() == pytest.approx(1000)
    assert iwae(torch.tensor([[0.0, -1e9]])).item() == pytest.approx(-math.log(2))


def test_gradient_is_the_weighted_mean_of_the_log_weights_gradients():
    theta = torch.tensor(0.3).double().requires_grad_()
    log_weights = -(torch.randn(6, 9).double() - theta).square()
    gradient = torch.autograd.grad(iwae(log_weights).sum(), theta, retain_graph=True)[0]
    weights = log_weights.detach().softmax(dim=1)
    expected = torch.autograd.grad((weights * log_weights).sum(), theta)[0]
    torch.testing.assert_close(gradient, expected)
