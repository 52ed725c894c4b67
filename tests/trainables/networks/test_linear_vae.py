"""A linear VAE's best ELBO is the likelihood of probabilistic PCA (Tipping & Bishop 1999; Lucas et al. 2019)."""

import math

import pytest
import torch
from torch import Tensor, nn

from trainables.networks.gaussian import GaussianHead
from trainables.networks.vae import VAE, VaeConfig, VaeTerms
from trainables.training.likelihoods import SharedGaussian

D, Q, N = 8, 3, 400
CONFIG = VaeConfig("mlp", channels=D, px=1, latent_dim=Q, base_width=1, hidden_dim=1, likelihood="gaussian_learned")


def linear_vae() -> VAE:
    """The VAE with its networks exchanged for one linear layer each; "images" are D channels of one pixel."""
    model = VAE(CONFIG)
    model.encoder = nn.Sequential(nn.Flatten(), GaussianHead(D, Q))
    model.decoder = nn.Sequential(nn.Linear(Q, D), nn.Unflatten(1, (D, 1, 1)))
    return model


def data() -> Tensor:
    """N points [N, D, 1, 1] with D different variances, turned at random."""
    generator = torch.Generator().manual_seed(0)
    scales = torch.tensor([1.0, 0.7, 0.5, 0.3, 0.25, 0.2, 0.15, 0.1]).double()
    turn: Tensor = torch.linalg.qr(torch.randn(D, D, generator=generator).double()).Q
    points: Tensor = (torch.randn(N, D, generator=generator).double() * scales) @ turn
    return (points + 0.5)[..., None, None]


def ppca(x: Tensor) -> tuple[float, float, Tensor]:
    """Log-likelihood per point, sigma^2 and all eigenvalues, the largest first."""
    centred = x.flatten(1) - x.flatten(1).mean(dim=0)
    eigenvalues = torch.linalg.eigvalsh(centred.T @ centred / len(x)).flip(0)
    variance = eigenvalues[Q:].mean()
    logs = eigenvalues[:Q].log().sum() + (D - Q) * variance.log()
    return -0.5 * (D * math.log(2 * math.pi) + logs + D).item(), variance.item(), eigenvalues


def sigma_points(count: int) -> Tensor:
    """Noise [count, 2Q, Q], +-sqrt(Q) along each axis: the mean over them of any quadratic is exactly its expectation."""
    axes = math.sqrt(Q) * torch.eye(Q).double()
    return torch.cat([axes, -axes]).expand(count, -1, -1)


def elbo(model: VAE, x: Tensor, noise: Tensor) -> Tensor:
    """Mean over points."""
    terms: VaeTerms = model(x, noise)
    assert terms.log_likelihood is not None
    return terms.log_likelihood.mean() - terms.kl.sum(dim=1).mean()


def sigma(model: VAE) -> float:
    assert isinstance(model.likelihood, SharedGaussian)
    return model.likelihood.scale.log().exp().item()


def test_the_best_elbo_is_the_likelihood_of_ppca():
    torch.manual_seed(0)
    model, x = linear_vae().double(), data()
    noise = sigma_points(N)
    exact, variance, eigenvalues = ppca(x)
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=1500, history_size=50, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        # PyTorch's L-BFGS learns no curvature from steps whose loss changes by less than 1e-10.
        value = -1e4 * elbo(model, x, noise)
        value.backward()
        return value

    optimizer.step(loss)
    gap = exact - elbo(model, x, noise).item()
    assert -1e-12 < gap < 1e-9
    assert sigma(model) ** 2 == pytest.approx(variance, abs=1e-8)
    # The prior's axes are the principal ones: columns of W at right angles, with the eigenvalues above sigma^2.
    weight = model.decoder.get_parameter("0.weight").detach()
    found = (weight.square().sum(dim=0) + sigma(model) ** 2).sort(descending=True).values
    torch.testing.assert_close(found, eigenvalues[:Q], atol=1e-6, rtol=0)


def test_stochastic_training_comes_close():
    """One reparametrised sample per point, in float32, as images are trained."""
    torch.manual_seed(0)
    model, x = linear_vae(), data().float()
    steps = 800
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        (-elbo(model, x, torch.randn(N, 1, Q))).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        gap = ppca(x.double())[0] - elbo(model.double(), x.double(), sigma_points(N)).item()
    assert 0 < gap < 0.05
