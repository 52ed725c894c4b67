"""One optimizer step: draw a batch, compute the loss's terms, sum the gradients over ranks, update the weights.

Everything is drawn and kept on the device: on a GPU no step waits for Python to see a value.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from spaces.trial import Trial
from trainables.learner import Learner
from trainables.training.losses import Ranks
from trainables.training.state import TrainingState

logger = logging.getLogger(__name__)


class Step:
    """The optimizer steps of one trial on this rank.

    Args:
        data: as the learner opened it.
        state: on its device; every step changes it.
        rank, world_size: each rank draws the same whole batch and takes its part, so W workers make the step of one.
        compiled: by TorchInductor, at the first step.
        graph: makes steps, if given: called with a function and its rates, as a `StepGraph` is.
    """

    def __init__(
        self,
        trial: Trial,
        learner: Learner[Any, Any, Any, Any],
        data: Any,
        state: TrainingState,
        *,
        rank: int = 0,
        world_size: int = 1,
        compiled: bool = False,
        graph: Callable[..., dict[str, Tensor]] | None = None,
    ) -> None:
        self.graph = graph
        self.trial, self.learner, self.data, self.state = trial, learner, data, state
        self._rank, self.world_size, self.compiled = rank, world_size, compiled
        self.device = state.generator.device
        self.mixed = self._agreed_to_mix()
        """Its matrices are multiplied in bfloat16."""
        logger.info("batches of %d in %s", trial.batch_size, "bfloat16" if self.mixed else "float32")
        if compiled:
            torch.compiler.reset()  # else the ninth shape of network in this process would silently not be compiled
        network = torch.compile(state.model) if compiled else state.model
        self._distributed = (
            DistributedDataParallel(network, gradient_as_bucket_view=True, broadcast_buffers=False)
            if world_size > 1
            else None
        )
        self._network = self._distributed or network

    def __call__(self, step: int, learning_rate: float, kl_weight: float) -> dict[str, Tensor]:
        """Make step number `step`, the first is 1; what the learner's loss consists of, and `grad_norm`, of this rank.

        The next step may overwrite them.
        """
        rates = learning_rate, kl_weight
        values = self._make(*rates) if self.graph is None else self.graph(self._make, *rates)
        self.state.average(step)
        return values

    def _make(self, learning_rate: float | Tensor, kl_weight: float | Tensor) -> dict[str, Tensor]:
        """All of a step but the moving average, whose weights differ from step to step."""
        weight_now = self.begin(kl_weight)
        batches: list[dict[str, Tensor]] = []
        for batch in range(self.trial.accumulation):
            # Until the last batch gradients stay on this rank.
            alone = self._distributed if batch + 1 < self.trial.accumulation else None
            with alone.no_sync() if alone is not None else nullcontext():
                values = self._losses(weight_now)
                (values["loss"] / self.trial.accumulation).backward()
            batches.append({name: value.detach() for name, value in values.items()})
        return self.finish(learning_rate, mean_of(batches))

    def begin(self, kl_weight: float | Tensor) -> float | Tensor:
        """Forget the last step's gradients; the KL weight of this one, which is given but for what steers the rate."""
        self.state.optimizer.zero_grad(set_to_none=True)
        return self.state.steered(kl_weight)

    def inputs(self) -> tuple[Any, ...]:
        """What the network is called with for this rank's part of the next batch."""
        drawn = self.learner.draw(self.trial, self.data, self.state.generator)
        if self.world_size > 1:
            drawn = tuple(one.tensor_split(self.world_size)[self._rank] for one in drawn)
        return self.learner.inputs(self.trial, self.data, drawn)

    def finish(self, learning_rate: float | Tensor, means: dict[str, Tensor]) -> dict[str, Tensor]:
        """Change the weights by the gradients that are there; `means` over a step's batches, and `grad_norm`.

        The moving average comes after it.
        """
        norm = self._clip()
        self.state.update(learning_rate)
        if self.trial.target_rate:
            self.state.steer(means["kl"], self.trial.target_rate)
        return {**means, "grad_norm": norm}

    def _losses(self, kl_weight: float | Tensor) -> dict[str, Tensor]:
        """Of this rank's part of a batch."""
        inputs = self.inputs()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
            terms = self._network(*inputs)
        return self.learner.loss(self.trial, terms, kl_weight, Ranks(self.world_size))

    def _clip(self) -> Tensor:
        """The gradients' norm, before they are scaled to the largest allowed."""
        weights = list(self.state.model.parameters())
        norm = torch.nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None])
        limit = self.trial.grad_clip
        # On a CPU a look at the norm costs nothing and scaling by one a twentieth of a step; a GPU would wait for the look.
        may_look = self.device.type == "cpu" and self.graph is None
        if limit and (not may_look or norm > limit):
            torch.nn.utils.clip_grads_with_norm_(weights, limit, norm)
        return norm

    def _agreed_to_mix(self) -> bool:
        """Whether every rank's hardware is for bfloat16, if the trial leaves it open."""
        if self.trial.precision != "auto":
            return self.trial.precision == "bfloat16"
        mixed = torch.tensor(int(multiplies_bfloat16(self.device)), device=self.device)
        if self.world_size > 1:
            dist.all_reduce(mixed, op=dist.ReduceOp.MIN)
        return bool(mixed)


def mean_of(batches: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Of values by name."""
    if len(batches) == 1:
        return batches[0]
    return {name: torch.stack([one[name] for one in batches]).mean(dim=0) for name in batches[0]}


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 matrices itself; where it must be emulated, it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
