"""All that a training step reads and writes: model, moving average, optimizer and the generator of its random numbers."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from deeplens_workers.threads import seeded
from spaces.seeding import named_seed
from spaces.trial import Trial
from trainables.learner import Network

BETAS = (0.9, 0.99)
"""Adam's and AdamW's. 0.99 and not 0.999: a trial has some thousand steps, in which gradients fall a hundredfold (0.015 against 0.022
relative L2 on a Cooke triplet after 1,800 steps)."""

AVERAGE_EVERY = 4
"""Steps between two updates of the moving average. Each reads and writes all weights, which takes a tenth of a step's time."""
RATE_SPEED = 0.01
"""Largest change of the KL weight's logarithm per step towards a target rate: a factor of e in a hundred steps."""
FARTHEST = 10.0
"""Of that logarithm from 0: a target that cannot be reached, such as one below the free bits, must not drown the rest."""

# What a trial may name as its optimizer.
OPTIMIZERS: dict[str, Callable[[Iterable[nn.Parameter], Trial], Optimizer]] = {
    "adamw": lambda weights, trial: torch.optim.AdamW(
        weights, lr=trial.learning_rate, betas=BETAS, weight_decay=trial.weight_decay, fused=True
    ),
    "adam": lambda weights, trial: torch.optim.Adam(
        weights, lr=trial.learning_rate, betas=BETAS, weight_decay=trial.weight_decay, fused=True
    ),
    "sgd": lambda weights, trial: torch.optim.SGD(
        weights, lr=trial.learning_rate, momentum=trial.momentum, weight_decay=trial.weight_decay, fused=True
    ),
}


class TrainingState:
    """State of one trial's training on one device; `tensors` and `restore` make it a checkpoint and back.

    Args:
        build: makes the network, with random weights from torch's global generator.
    """

    def __init__(self, trial: Trial, build: Callable[[], Network], seed: int, device: torch.device) -> None:
        with seeded(seed):
            self.model = build().to(device)
        self.optimizer = OPTIMIZERS[trial.optimizer](self.model.parameters(), trial)
        # Its own stream, not the initial weights'.
        self.generator = torch.Generator(device).manual_seed(named_seed(seed, "batches"))
        self._average = moving_average(self.model, trial.ema_width) if trial.ema_width else None
        self._log_kl_factor = torch.zeros((), device=device) if trial.target_rate else None

    @property
    def evaluated(self) -> Network:
        """The model that is validated, kept as best and exported: the moving average if the trial has one."""
        if self._average is None:
            return self.model
        assert isinstance(self._average.module, Network)
        return self._average.module

    def update(self, learning_rate: float | Tensor) -> None:
        """An optimizer step with the gradients that are there."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()

    def average(self, step: int) -> None:
        """Take step number `step` into the moving average, if it is one's turn."""
        if self._average is not None and step % AVERAGE_EVERY == 0:
            self._average.update_parameters(self.model)

    def steered(self, kl_weight: float | Tensor) -> float | Tensor:
        """The KL weight times the factor that steers the rate."""
        return kl_weight if self._log_kl_factor is None else kl_weight * self._log_kl_factor.exp()

    def steer(self, rate: Tensor, target: float) -> None:
        """After a step of KL `rate` in nats per sample: weigh the KL more if it is above `target`, less if below.

        Multiplicative steps, as GECO makes them (Rezende & Viola 2018, "Taming VAEs"), towards a rate in place of a
        reconstruction error.
        """
        assert self._log_kl_factor is not None
        self._log_kl_factor += RATE_SPEED * (rate / target - 1).clamp(-1, 1)
        self._log_kl_factor.clamp_(-FARTHEST, FARTHEST)

    def tensors(self) -> dict[str, Tensor]:
        """By name: `model.*`, `average.*`, `optimizer.INDEX.*`, `log_kl_factor` and `generator`."""
        moments = self.optimizer.state_dict()["state"]
        return {
            **with_prefix("model.", self.model.state_dict()),
            **(with_prefix("average.", self._average.state_dict()) if self._average is not None else {}),
            **{f"optimizer.{i}.{name}": value for i, values in moments.items() for name, value in values.items()},
            **({"log_kl_factor": self._log_kl_factor} if self._log_kl_factor is not None else {}),
            "generator": self.generator.get_state(),
        }

    def rewind(self, tensors: dict[str, Tensor]) -> None:
        """Put copies of `tensors()` back in place: what has their addresses, such as a CUDA graph, goes on with them."""
        for name, tensor in self.tensors().items():
            if name != "generator":
                tensor.copy_(tensors[name])
        self.generator.set_state(tensors["generator"])

    def restore(self, tensors: dict[str, Tensor]) -> Self:
        """Put `tensors` back: the steps that follow are those that would have followed.

        Of another kind of device, all but the random numbers go on: those are other ones.
        """
        self.model.load_state_dict(without_prefix("model.", tensors))
        if self._average is not None:
            self._average.load_state_dict(without_prefix("average.", tensors))
        state: dict[int, dict[str, Tensor]] = {}
        weights = list(self.model.parameters())
        for key, value in without_prefix("optimizer.", tensors).items():
            index, name = key.split(".")
            # Moments lie in memory as their weights do, which a file does not tell.
            like = weights[int(index)]
            state.setdefault(int(index), {})[name] = (
                torch.empty_like(like).copy_(value) if value.shape == like.shape else value
            )
        # Hyperparameters (`param_groups`) come from the trial, never from the file.
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})
        if self._log_kl_factor is not None:
            self._log_kl_factor.copy_(tensors["log_kl_factor"])
        drawn = tensors["generator"]
        if drawn.shape == self.generator.get_state().shape:
            self.generator.set_state(drawn)
        else:
            # A CPU's and a GPU's generator have nothing in common: neither can go on with the other's numbers.
            self.generator.manual_seed(named_seed(zlib.crc32(drawn.numpy().tobytes()), "batches"))
        return self


def moving_average(model: Network, width: float) -> AveragedModel:
    """Average of the weights over the last part of all steps so far, weighted by a power of the step.

    It needs neither warm-up nor tuning to the budget, and it takes most of the noise of the learning rate out of what is
    compared at rungs (Karras et al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion Models", eq. 3).

    Args:
        width: standard deviation of the weighting over the number of steps so far (sigma_rel), in (0, 0.25].
    """
    inverse_variance = width**-2
    gamma = float(np.roots([1, 7, 16 - inverse_variance, 12 - inverse_variance]).real.max())

    def lerp(averages: Sequence[Tensor], weights: Sequence[Tensor], n: Tensor | int) -> None:
        # Not `n`: it is a copy on the weights' device, and reading that would wait for it.
        beta = (1 - 1 / (float(average.n_averaged) + 1)) ** (gamma + 1)
        get_ema_multi_avg_fn(beta)(averages, weights, n)

    average = AveragedModel(model, multi_avg_fn=lerp)
    average.requires_grad_(False)
    return average


def with_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by their names with `prefix` before them."""
    return {prefix + name: value for name, value in tensors.items()}


def without_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
