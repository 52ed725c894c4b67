"""One optimizer step: draw a batch, compute the loss's terms, sum the gradients over ranks, update the weights.

Everything is drawn and kept on the device: on a GPU no step waits for Python to see a value.
"""

from __future__ import annotations

import logging
from contextlib import nullcontext

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from spaces.trial import CvaePsfTrial
from trainables.psf.data import PsfTensors
from trainables.training.losses import weighted_loss
from trainables.training.state import TrainingState

logger = logging.getLogger(__name__)

TERMS = ("mse", "kl", "kl_free", "smooth", "decoder_variance", "effective_beta", "loss", "grad_norm")
"""What a step returns."""


class Step:
    """The optimizer steps of one trial on this rank.

    Args:
        state: on the device of `data`; every step changes it.
        rank, world_size: each rank draws the same whole batch and takes its part, so W workers make the step of one.
        compiled: by TorchInductor, at the first step.
    """

    def __init__(
        self,
        trial: CvaePsfTrial,
        data: PsfTensors,
        state: TrainingState,
        *,
        rank: int = 0,
        world_size: int = 1,
        compiled: bool = False,
    ) -> None:
        self._trial, self._data, self._state = trial, data, state
        self._rank, self._world_size = rank, world_size
        self._mixed = self._agreed_to_mix()
        logger.info("batches of %d in %s", trial.batch_size, "bfloat16" if self._mixed else "float32")
        self._elements = data.train.kernels[0].numel()
        if compiled:
            torch.compiler.reset()  # else the ninth shape of network in this process would silently not be compiled
        network = torch.compile(state.model) if compiled else state.model
        self._distributed = DistributedDataParallel(network, gradient_as_bucket_view=True) if world_size > 1 else None
        self._network = self._distributed or network

    def __call__(self, step: int, learning_rate: float, kl_weight: float) -> Tensor:
        """Make step number `step`, the first is 1; this rank's share of every one of `TERMS`, as in `weighted_loss`, [len(TERMS)]."""
        trial, state = self._trial, self._state
        state.optimizer.zero_grad(set_to_none=True)
        kl_weight_now = state.steered(kl_weight)
        total = torch.zeros(len(TERMS) - 1, device=self._data.device)
        for batch in range(trial.accumulation):
            # Until the last batch gradients stay on this rank.
            alone = self._distributed if batch + 1 < trial.accumulation else None
            with alone.no_sync() if alone is not None else nullcontext():
                values = self._losses(kl_weight_now)
                (values["loss"] / trial.accumulation).backward()
            total += torch.stack([values[name].detach() for name in TERMS[:-1]])
        means = total / trial.accumulation
        norm = self._clip()
        state.update(step, learning_rate)
        if trial.target_rate:
            state.steer(means[TERMS.index("kl")], trial.target_rate)
        return torch.cat([means, norm[None]])

    def _losses(self, kl_weight: float | Tensor) -> dict[str, Tensor]:
        """Of this rank's part of a batch."""
        trial, data, state = self._trial, self._data, self._state
        device, generator = data.device, state.generator
        batch = torch.randint(len(data.train), (trial.batch_size,), generator=generator, device=device)
        noise = torch.randn(trial.batch_size, trial.latent_dim, generator=generator, device=device)
        pairs = torch.randint(len(data.pairs), (trial.smooth_pairs,), generator=generator, device=device)
        if self._world_size > 1:
            batch, noise, pairs = (one.tensor_split(self._world_size)[self._rank] for one in (batch, noise, pairs))

        kernels, points, neighbours = data.train.kernels[batch], data.train.points[batch], data.pairs[pairs]
        data.refresh(trial.batch_size)
        with torch.autocast(device.type, torch.bfloat16, enabled=self._mixed):
            terms = self._network(kernels, points, noise, neighbours.movedim(1, 0), trial.smooth_term)
        return weighted_loss(terms, trial, kl_weight, self._elements, self._world_size)

    def _clip(self) -> Tensor:
        """The gradients' norm, before they are scaled to the largest allowed."""
        weights = list(self._state.model.parameters())
        norm = torch.nn.utils.get_total_norm([weight.grad for weight in weights if weight.grad is not None])
        limit = self._trial.grad_clip
        # On a CPU a look at the norm costs nothing and scaling by one a twentieth of a step; a GPU would wait for the look.
        if limit and (self._data.device.type != "cpu" or norm > limit):
            torch.nn.utils.clip_grads_with_norm_(weights, limit, norm)
        return norm

    def _agreed_to_mix(self) -> bool:
        """Whether every rank's hardware is for bfloat16, if the trial leaves it open."""
        if self._trial.precision != "auto":
            return self._trial.precision == "bfloat16"
        mixed = torch.tensor(int(multiplies_bfloat16(self._data.device)), device=self._data.device)
        if self._world_size > 1:
            dist.all_reduce(mixed, op=dist.ReduceOp.MIN)
        return bool(mixed)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 matrices itself; where it must be emulated, it is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
