"""All that a training step reads and writes: model, moving average, optimizer and the generator of its random numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from spaces.seeding import named_seed
from spaces.trial import CvaePsfTrial
from trainables.vae import CVAE, CvaeConfig

BETAS = (0.9, 0.99)
"""AdamW's. 0.99 and not 0.999: a trial has some thousand steps, in which gradients fall a hundredfold (0.015 against 0.022
relative L2 on a Cooke triplet after 1,800 steps)."""


class TrainingState:
    """State of one trial's training on one device; `tensors` and `restore` make it a checkpoint and back."""

    def __init__(self, trial: CvaePsfTrial, config: CvaeConfig, seed: int, device: torch.device) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = CVAE(config).to(device)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=trial.learning_rate, betas=BETAS, weight_decay=trial.weight_decay, fused=True
        )
        # Its own stream, not the initial weights'.
        self.generator = torch.Generator(device).manual_seed(named_seed(seed, "batches"))
        self._average = moving_average(self.model, trial.ema_width) if trial.ema_width else None

    @property
    def evaluated(self) -> CVAE:
        """The model that is validated, kept as best and exported: the moving average if the trial has one."""
        if self._average is None:
            return self.model
        assert isinstance(self._average.module, CVAE)
        return self._average.module

    def update(self, learning_rate: float) -> None:
        """One optimizer step with the gradients that are there."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        if self._average is not None:
            self._average.update_parameters(self.model)

    def tensors(self) -> dict[str, Tensor]:
        """By name: `model.*`, `average.*`, `optimizer.INDEX.*` and `generator`."""
        moments = self.optimizer.state_dict()["state"]
        return {
            **with_prefix("model.", self.model.state_dict()),
            **(with_prefix("average.", self._average.state_dict()) if self._average is not None else {}),
            **{f"optimizer.{i}.{name}": value for i, values in moments.items() for name, value in values.items()},
            "generator": self.generator.get_state(),
        }

    def restore(self, tensors: dict[str, Tensor]) -> Self:
        """Put `tensors` back: the steps that follow are those that would have followed."""
        self.model.load_state_dict(without_prefix("model.", tensors))
        if self._average is not None:
            self._average.load_state_dict(without_prefix("average.", tensors))
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in without_prefix("optimizer.", tensors).items():
            index, name = key.split(".")
            state.setdefault(int(index), {})[name] = value
        # Hyperparameters (`param_groups`) come from the trial, never from the file.
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.generator.set_state(tensors["generator"])
        return self


def moving_average(model: CVAE, width: float) -> AveragedModel:
    """Average of the weights over the last part of all steps so far, weighted by a power of the step.

    It needs neither warm-up nor tuning to the budget, and it takes most of the noise of the learning rate out of what is
    compared at rungs (Karras et al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion Models", eq. 3).

    Args:
        width: standard deviation of the weighting over the number of steps so far (sigma_rel), in (0, 0.25].
    """
    inverse_variance = width**-2
    gamma = float(np.roots([1, 7, 16 - inverse_variance, 12 - inverse_variance]).real.max())

    def lerp(averages: Sequence[Tensor], weights: Sequence[Tensor], _: Tensor | int) -> None:
        # Not the argument: it is a copy on the weights' device, and reading that would wait for it.
        beta = (1 - 1 / (float(average.n_averaged) + 1)) ** (gamma + 1)
        torch._foreach_lerp_(list(averages), list(weights), 1 - beta)

    average = AveragedModel(model, multi_avg_fn=lerp)
    average.requires_grad_(False)
    return average


def with_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by their names with `prefix` before them."""
    return {prefix + name: value for name, value in tensors.items()}


def without_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
