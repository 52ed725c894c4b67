"""What the decoder leaves of the error if it is given a unit's true tolerances in place of z, which nobody has of a manufactured lens.

It is no bound: a decoder of 24 numbers that were found for it may be better than one of many that were not.

Shape legend: U = units, V = tolerances, G = mirror images, B = batch, T = targets.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from deeplens_workers.asbuilt_data import OBSERVED
from deeplens_workers.threads import seeded
from deeplens_workers.tolerances import Deviation
from trainables.asbuilt.data import AsBuiltSplit, AsBuiltTensors
from trainables.asbuilt.evaluation import name_of, unit_errors
from trainables.asbuilt.network import AsBuiltCVAE
from trainables.learner import Judged
from trainables.timing import fastest, shares
from trainables.training.schedules import learning_rate_factor
from trainables.training.state import BETAS

BATCH, TARGETS, RATE, WARMUP = 64, 16, 2e-3, 0.1
"""As the recommended trial has them."""
CHUNK = 32
LEAST_STEPS = 10
SEED = 0


class MirroredTolerances(NamedTuple):
    """Tolerance v of a unit's mirror image g is `signs[g, v]` times the unit's tolerance `order[g, v]`: as `basis.Mirrors`."""

    order: Tensor
    """[G, V] int64."""
    signs: Tensor
    """[G, V]."""

    @classmethod
    def of(cls, deviations: Sequence[Deviation], turns: Tensor) -> MirroredTolerances:
        """Of a lens' tolerances, for mirror images at `turns` [G, 2, 2] of the field.

        A decentre (x, y) goes where a position goes. A turn about an axis is an axial vector, which a mirror sends the other way.
        """
        places = {(one.part, one.number, one.name): index for index, one in enumerate(deviations)}
        order = torch.arange(len(deviations)).repeat(len(turns), 1)
        signs = torch.ones(len(turns), len(deviations))
        for (part, number, name), index in places.items():
            if "_x_" not in name:
                continue
            pair = [index, places[part, number, name.replace("_x_", "_y_")]]
            axial = torch.linalg.det(turns) if name.startswith(("tilt", "wedge")) else torch.ones(len(turns))
            maps = axial[:, None, None] * turns  # [G, 2, 2], one element of each row is not 0
            order[:, pair] = torch.tensor(pair)[maps.abs().argmax(dim=2)]
            signs[:, pair] = maps.sum(dim=2)
        return cls(order, signs)


def oracle(
    data: AsBuiltTensors,
    test: AsBuiltSplit,
    like: AsBuiltCVAE,
    seconds: float,
    mirrored: MirroredTolerances,
    least_steps: int = LEAST_STEPS,
) -> Judged:
    """Trained now, on the CPU, for about so many seconds, and judged at held-out units.

    Args:
        like: whose decoder it has, of principal components.
        seconds: of wall-clock time, above 0.
        mirrored: how tolerances are, for the mirror images of `data`.
    """
    began = time.perf_counter()
    with seeded(SEED):
        model = AsBuiltCVAE(replace(like.config, latent_dim=data.tolerances.shape[1], network="basis"), data.basis)
    generator = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.AdamW(model.decoder.parameters(), lr=RATE, betas=BETAS, weight_decay=0.0)
    for share in shares(seconds, least_steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * learning_rate_factor("one_cycle", share, WARMUP, 1)
        optimizer.zero_grad(set_to_none=True)
        _loss(model, data, mirrored, generator).backward()
        torch.nn.utils.clip_grad_norm_(model.decoder.parameters(), 1.0)
        optimizer.step()
    trained = time.perf_counter() - began
    model.eval()
    away, images = test.held_out, slice(model.config.flips)

    def predict(units: Tensor, points: Tensor) -> Tensor:
        return model.decode_images(units[:, mirrored.order[images]] * mirrored.signs[images], points)

    with torch.no_grad():
        errors = torch.cat(
            [
                unit_errors(predict(units, points), kernels)
                for kernels, points, units in zip(*(one.split(CHUNK) for one in away.parts), strict=True)
            ]
        )
        _, time_each = fastest(lambda: predict(away.units[:1], away.points[:1]))
    size = sum(one.numel() * one.element_size() for one in model.decoder.state_dict().values())
    return Judged({name_of(count): errors for count in OBSERVED}, size, time_each, training=trained)


def _loss(model: AsBuiltCVAE, data: AsBuiltTensors, mirrored: MirroredTolerances, generator: torch.Generator) -> Tensor:
    units, positions, _, _ = data.shape
    unit = torch.randint(units, (BATCH,), generator=generator)
    images = torch.randint(len(data.mirrors.turns), (BATCH,), generator=generator)
    at = torch.rand(BATCH, positions, generator=generator).argsort(dim=1)[:, :TARGETS]
    tolerances = data.tolerances[unit].gather(1, mirrored.order[images]) * mirrored.signs[images]
    points = data.mirrors.turned(data.points[unit[:, None], at], images)
    wanted = data.mirrored(data.scores[unit[:, None], at][..., : model.config.components], images)
    error = model.values(tolerances, points) - wanted
    return error.square().sum(dim=-1).mean() / model.variance
