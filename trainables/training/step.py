"""One optimizer step: draw a batch, compute the loss's terms, sum the gradients over ranks, update the weights.

Everything is drawn and kept on the device: on a GPU no step waits for Python to see a value.
"""

from __future__ import annotations

import logging
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
    ) -> None:
        self._trial, self._learner, self._data, self._state = trial, learner, data, state
        self._rank, self.world_size = rank, world_size
        self._device = state.generator.device
        self._mixed = self._agreed_to_mix()
        logger.info("batches of %d in %s", trial.batch_size, "bfloat16" if self._mixed else "float32")
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
        """Make step number `step`, the first is 1; what the learner's loss consists of, and `grad_norm`, of this rank."""
        trial, state = self._trial, self._state
        state.optimizer.zero_grad(set_to_none=True)
        kl_weight_now = state.steered(kl_weight)
        batches: list[dict[str, Tensor]] = []
        for batch in range(trial.accumulation):
            # Until the last batch gradients stay on this rank.
            alone = self._distributed if batch + 1 < trial.accumulation else None
            with alone.no_sync() if alone is not None else nullcontext():
                values = self._losses(kl_weight_now)
                (values["loss"] / trial.accumulation).backward()
            batches.append({name: value.detach() for name, value in values.items()})
        means = batches[0]
        if trial.accumulation > 1:
            means = {name: torch.stack([one[name] for one in batches]).mean() for name in means}
        norm = self._clip()
        state.update(step, learning_rate)
        if trial.target_rate:
            state.steer(means["kl"], trial.target_rate)
        return {**means, "grad_norm": norm}

    def _losses(self, kl_weight: float | Tensor) -> dict[str, Tensor]:
        """Of this rank's part of a batch."""
        trial, learner = self._trial, self._learner
        drawn = learner.draw(trial, self._data, self._state.generator)
        if self.world_size > 1:
            drawn = tuple(one.tensor_split(self.world_size)[self._rank] for one in drawn)
        inputs = learner.inputs(trial, self._data, drawn)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._mixed):
            terms = self._network(*inputs)
        return learner.loss(trial, terms, kl_weight, Ranks(self.world_size))

    def _clip(self) -> Tensor:
        """The gradients' norm, before they are scaled to the largest allowed."""
        weights = list(self._state.model.parameters())
        norm = torch.nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None])
        limit = self._trial.grad_clip
        # On a CPU a look at the norm costs nothing and scaling by one a twentieth of a step; a GPU would wait for the look.
        if limit and (self._device.type != "cpu" or norm > limit):
            torch.nn.utils.clip_grads_with_norm_(weights, limit, norm)
        return norm

    def _agreed_to_mix(self) -> bool:
        """Whether every rank's hardware is for bfloat16, if the trial leaves it open."""
        if self._trial.precision != "auto":
            return self._trial.precision == "bfloat16"
        mixed = torch.tensor(int(multiplies_bfloat16(self._device)), device=self._device)
        if self.world_size > 1:
            dist.all_reduce(mixed, op=dist.ReduceOp.MIN)
        return bool(mixed)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 matrices itself; where it must be emulated, it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
