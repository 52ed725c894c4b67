"""Metrics of predicted kernels, the same for models and for interpolation; names as in trainables/psf/system.py.

Shape legend: N = kernels, C = channel, K = kernel side in pixels, L = latent dimension.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from trainables.learner import evaluating
from trainables.networks.gaussian import gaussian_kl
from trainables.psf.cvae import CVAE
from trainables.psf.data import PsfTensors

CHUNK = 1024
ACTIVE_VARIANCE = 0.01
"""A latent dimension is active if mu_q - mu_p varies by more over the data (Burda et al. 2016, for a learned prior)."""


def relative_l2(predicted: Tensor, true: Tensor) -> Tensor:
    """||K_hat - K|| / ||K|| over all channels of each kernel, [N]."""
    error, size = (predicted - true).flatten(1), true.flatten(1)
    return (error.square().sum(dim=1) / size.square().sum(dim=1)).sqrt()


def psnr(predicted: Tensor, true: Tensor) -> Tensor:
    """10 log10(peak^2 / MSE) in dB, with each true kernel's own peak, [N]; at most 200 dB."""
    peak = true.flatten(1).amax(dim=1).square()
    mse = (predicted - true).square().flatten(1).mean(dim=1)
    return 10 * torch.log10(peak / mse.clamp_min(1e-20 * peak))


def centroid(kernels: Tensor) -> Tensor:
    """Centroid (x, y) in kernel pixels from the kernel's centre, [N, C, 2]."""
    axis = torch.arange(kernels.shape[-1], device=kernels.device) - (kernels.shape[-1] - 1) / 2
    total = kernels.sum(dim=(-2, -1))
    return (
        torch.stack([(kernels.sum(dim=-2) * axis).sum(-1), (kernels.sum(dim=-1) * axis).sum(-1)], -1) / total[..., None]
    )


def rms_radius(kernels: Tensor) -> Tensor:
    """Root of the second moment about the centroid in kernel pixels, [N, C]."""
    axis = torch.arange(kernels.shape[-1], device=kernels.device) - (kernels.shape[-1] - 1) / 2
    total = kernels.sum(dim=(-2, -1))
    square = ((kernels.sum(dim=-2) + kernels.sum(dim=-1)) * axis.square()).sum(-1) / total
    return (square - centroid(kernels).square().sum(-1)).clamp_min(0).sqrt()


def kernel_errors(predicted: Tensor, true: Tensor) -> dict[str, Tensor]:
    """Every metric that compares kernels, of each of the kernels [N, C, K, K]: [N]; names without `val/` or `test/`.

    Relative L2 and PSNR are over all channels of a kernel, centroid and radius are means of its channels.
    """
    return {
        "prior_rel_l2": relative_l2(predicted, true),
        "prior_psnr": psnr(predicted, true),
        "prior_centroid_px": torch.linalg.vector_norm(centroid(predicted) - centroid(true), dim=-1).mean(dim=1),
        "prior_radius_error_px": (rms_radius(predicted) - rms_radius(true)).abs().mean(dim=1),
    }


def kernel_metrics(predicted: Tensor, true: Tensor) -> dict[str, float]:
    """Means over kernels [N, C, K, K] of `kernel_errors`."""
    errors = kernel_errors(predicted, true)
    # Stacked first: one transfer from the device.
    return dict(zip(errors, torch.stack(list(errors.values())).mean(dim=1).tolist(), strict=True))


@torch.no_grad()
def predict(model: CVAE, points: Tensor) -> Tensor:
    """`model.predict` in chunks of bounded memory: points [N, d] -> kernels [N, C, K, K]."""
    return torch.cat([model.predict(chunk) for chunk in points.split(CHUNK)])


class Known(NamedTuple):
    """Kernels [N, C, K, K] that a posterior may see, what the networks see of them (`CVAE.encode`), and their points [N, d]."""

    values: Tensor
    kernels: Tensor
    points: Tensor


def known(model: CVAE, data: PsfTensors, rows: Tensor | slice = slice(None)) -> Known:
    """The validation set; of the meridional frame's components, which no turned kernel has, what the train set holds back."""
    if model.config.network != "basis":
        split = data.validation
        return Known(split.kernels[rows], split.kernels[rows], split.points[rows])
    count = model.config.components
    if data.turned is None:
        split = data.validation
        scores = data.basis.components.scores(split.kernels[rows].cpu()).to(split.kernels.device)
        return Known(scores[:, :count], split.kernels[rows], split.points[rows])
    last = slice(-data.held_back, None)
    smooth, points = data.train.kernels[last][rows], data.train.points[last][rows]
    kernels = model.turning(smooth, torch.zeros(len(smooth), device=smooth.device))
    return Known(data.basis.scores[last][rows, :count], kernels, points)


def evaluate(model: CVAE, data: PsfTensors) -> dict[str, float]:
    """Every `val/` metric of a model. Nothing here depends on a weight of the loss."""
    with evaluating(model):
        return _evaluate(model, data)


def _evaluate(model: CVAE, data: PsfTensors) -> dict[str, float]:
    errors, prior_errors, kls, shifts, split = [], [], [], [], data.validation
    parts = (one.split(CHUNK) for one in known(model, data))
    for seen, kernels, points in zip(*parts, strict=True):
        posterior, prior = model.encode(seen, points), model.prior(points)
        errors.append(relative_l2(model.decode(posterior.mu, points), kernels))
        prior_errors.append(relative_l2(model.decode(prior.mu, points), kernels))
        kls.append(gaussian_kl(posterior, prior).sum(dim=1))
        shifts.append(posterior.mu - prior.mu)
    values = kernel_metrics(predict(model, split.points), split.kernels)
    values["posterior_rel_l2"] = float(torch.cat(errors).mean())
    values["prior_gap"] = float(torch.cat(prior_errors).mean()) - values["posterior_rel_l2"]
    values["kl"] = float(torch.cat(kls).mean())
    values["active_units"] = float((torch.cat(shifts).var(dim=0, correction=0) > ACTIVE_VARIANCE).sum())
    return {f"val/{name}": value for name, value in values.items()}
