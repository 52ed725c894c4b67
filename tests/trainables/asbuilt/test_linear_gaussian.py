"""The linear-Gaussian model of units against what it is in closed form."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from trainables.asbuilt.linear_gaussian import TERMS, LinearGaussian, fit, legendre

COMPONENTS, LATENTS, PLANE = 4, 2, 3


def terms_of(points: torch.Tensor, terms: int) -> torch.Tensor:
    return legendre(points, terms, ())


def some_model(seed: int = 0) -> LinearGaussian:
    torch.manual_seed(seed)
    wide = terms_of(torch.zeros(1, 2), max(TERMS)).shape[-1]
    mean = torch.zeros(wide, COMPONENTS)
    mean[:6] = torch.randn(6, COMPONENTS)
    return LinearGaussian(PLANE, (), mean, torch.randn(PLANE, LATENTS, COMPONENTS), torch.rand(COMPONENTS) * 0.1 + 0.01)


def units_of(model: LinearGaussian, units: int, positions: int) -> tuple[torch.Tensor, ...]:
    """Latents, points and noisy scores."""
    z = torch.randn(units, LATENTS)
    points = torch.rand(units, positions, 2) * 2 - 1
    scores = model.predict(z, points)
    return z, points, scores + model.noise.sqrt() * torch.randn(scores.shape)


def test_polynomials_are_all_of_their_degree_and_orthogonal():
    assert terms_of(torch.zeros(1, 2), 50).shape[-1] == 45  # degree 8
    assert terms_of(torch.zeros(1, 2), 140).shape[-1] == 136
    assert legendre(torch.tensor([[0.0, 0.0, -1000.0]]), 140, ((0.5, 2.0),)).shape[-1] == 120  # degree 7 of three
    axis = torch.linspace(-1, 1, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    values = terms_of(grid, 10)
    gram = values.T @ values / len(grid)
    apart = gram - torch.diag(gram.diagonal())
    assert apart.abs().max() < 0.02


def test_what_is_known_of_a_unit_is_the_gaussian_conditional():
    """Against the joint Gaussian of observed and unobserved scores, written out."""
    model = some_model()
    _, points, scores = units_of(model, 1, 3)
    elsewhere = torch.rand(1, 2, 2) * 2 - 1

    def loadings(at: torch.Tensor) -> torch.Tensor:
        return torch.einsum("pt,tqr->prq", terms_of(at[0], PLANE), model.loadings).flatten(0, 1)

    seen, wanted = loadings(points), loadings(elsewhere)
    covariance = seen @ seen.T + torch.diag(model.noise.repeat(3))
    apart = (scores - model.predict(torch.zeros(1, LATENTS), points)).flatten()
    expected = wanted @ seen.T @ torch.linalg.solve(covariance, apart)
    z, spread = model.posterior(scores, points)
    got = (model.predict(z, elsewhere) - model.predict(torch.zeros(1, LATENTS), elsewhere)).flatten()
    assert got == pytest.approx(expected, abs=1e-4)
    exact = torch.eye(LATENTS) - seen.T @ torch.linalg.solve(covariance, seen)
    assert torch.allclose(spread[0], exact, atol=1e-4)


def test_what_is_nothing_but_noise_leaves_the_mean():
    model = some_model()
    _, points, scores = units_of(model, 5, 4)
    z, spread = replace(model, noise=1e9 * model.noise).posterior(scores, points)
    assert z.abs().max() < 1e-3
    assert torch.allclose(spread, torch.eye(LATENTS).expand(5, -1, -1), atol=1e-3)


def test_the_model_is_found_from_units_of_it():
    """Nearly as good at units that it has not seen as the model that they are drawn from."""
    model = some_model()
    _, points, scores = units_of(model, 8000, 6)
    found = fit(scores, points, (), PLANE, LATENTS, iterations=20)
    _, points, scores = units_of(model, 100, 6)
    truth = model.predict(torch.zeros(100, LATENTS), points)

    def error(one: LinearGaussian) -> float:
        z, _ = one.posterior(scores[:, :2], points[:, :2])
        return float((one.predict(z, points[:, 2:]) - scores[:, 2:]).square().mean())

    known, learned = error(model), error(found)
    nothing = float((truth - scores)[:, 2:].square().mean())
    assert learned < 1.3 * known < 0.2 * nothing  # its mean is learned too
    assert torch.allclose(found.noise, model.noise, rtol=0.2, atol=0.01)


def test_fewer_units_than_latents_leave_some_noise():
    model = some_model()
    _, points, scores = units_of(model, 3, 6)
    found = fit(scores, points, (), 50, latents=8)
    z, _ = found.posterior(scores[:, :2], points[:, :2])
    assert found.predict(z, points).isfinite().all()
    assert (found.noise > 0).all()
