"""The loss of a squared error against closed forms."""

import math
from typing import Any

import pytest
import torch
from torch.distributions import Normal

from trainables.psf.trial import CvaePsfTrial
from trainables.training.losses import Ranks
from trainables.training.squared_error import Terms, gaussian_nll, squared_error_loss


def loss(trial: CvaePsfTrial, terms: Terms, kl_weight: float) -> dict[str, torch.Tensor]:
    """Of one worker with the whole batch."""
    return squared_error_loss(trial, terms, trial.smooth_pairs, kl_weight, Ranks())


def test_the_loss_is_the_documented_sum():
    trial = CvaePsfTrial(
        batch_size=4, smooth_pairs=2, recon_scale=1e3, kl_weight=0.1, smooth_weight=0.5, free_bits=0.3, latent_dim=2
    )
    terms = Terms(torch.full((4,), 2e-3), torch.tensor([[0.2, 1.0]] * 4), torch.tensor([1.0, 3.0]), elements=10)
    values = {name: value.item() for name, value in loss(trial, terms, 0.05).items()}
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
    terms = Terms(torch.zeros(4), torch.tensor([[0.2, 1.0, 0.6]] * 4), torch.zeros(2), elements=10)
    sizes: dict[str, Any] = {"batch_size": 4, "smooth_pairs": 2, "latent_dim": 3}
    by_sum, by_mean = (loss(CvaePsfTrial(kl_reduction=by, **sizes), terms, 0.5) for by in ("sum", "mean"))
    assert by_sum["loss"].item() == pytest.approx(0.5 * 1.8)
    assert by_mean["loss"].item() == pytest.approx(0.5 * 0.6)
    assert by_mean["kl"].item() == pytest.approx(1.8)  # reported in nats per sample, whatever the reduction
    assert by_mean["effective_beta"] == pytest.approx(by_sum["effective_beta"] / 3)


def test_the_likelihood_of_a_given_variance_is_the_normal_distribution_s():
    error, variance = torch.linspace(-0.1, 0.2, 50).double(), torch.tensor(0.003).double()
    exact = -Normal(0.0, variance.sqrt()).log_prob(error).sum()
    constant = 25 * math.log(2 * math.pi)
    assert gaussian_nll(error.square().mean(), variance.log(), 50) + constant == pytest.approx(exact)


def test_the_optimal_variance_is_the_best_that_a_learned_one_can_become():
    trial: dict[str, Any] = {
        "batch_size": 3,
        "smooth_pairs": 2,
        "latent_dim": 1,
        "kl_weight": 1.0,
        "smooth_weight": 0.0,
    }
    mse = torch.tensor([1e-4, 2e-4, 6e-4], requires_grad=True)
    terms = Terms(mse, torch.zeros(3, 1), torch.zeros(2), elements=10)
    optimal = loss(CvaePsfTrial(decoder_variance="optimal", **trial), terms, 1.0)
    assert optimal["decoder_variance"].item() == pytest.approx(3e-4)
    logvars = [math.log(3e-4) + shift for shift in (-0.1, 0.0, 0.1)]
    learned = [
        loss(
            CvaePsfTrial(decoder_variance="learned", **trial),
            terms._replace(mse=mse.detach(), logvar=torch.tensor(logvar)),
            1.0,
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

    minimised = scale * float(error.square().mean()) + kl_weight * kl
    assert negative_elbo(math.sqrt(elements / (2 * scale)), kl_weight) == pytest.approx(minimised)
    # With unit variance the same loss, up to a factor, has the KL weighted by the effective beta.
    terms = Terms(torch.zeros(1), torch.zeros(1, 1), torch.zeros(1), elements)
    trial = CvaePsfTrial(batch_size=1, smooth_pairs=1, latent_dim=1, recon_scale=scale)
    unit = negative_elbo(1.0, float(loss(trial, terms, kl_weight)["effective_beta"]))
    assert unit * 2 * scale / elements == pytest.approx(minimised)
