"""The steps of several alike trainings as those of one batched network.

Shape legend: M = trainings.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from trainables.packing import Numbers, Packing, gathered
from trainables.training.losses import Ranks
from trainables.training.step import Step, mean_of


def alike(step: Step) -> Hashable:
    """Equal for trainings whose steps can be batched; of one that must be alone, only to itself.

    Alone are those of a compiled network, on several workers, and of a system that does not pack.
    """
    packing = step.learner.packing
    if packing is None or step.compiled or step.world_size > 1:
        return step
    return id(step.learner), id(step.data), step.mixed, packing.alike(step.trial)


class _NoGradients(RuntimeError):
    """A step has changed nothing but random numbers, gradients and what is gathered of batches."""


class CannotBatch(RuntimeError):
    """Trainings that should be alike cannot make a step together, such as for want of memory. None of them has made it."""


class Batched:
    """Makes steps of M alike trainings: each as it would alone, to rounding, with its own random numbers, optimizer and clipping.

    Args:
        steps: of the trainings; by `alike` they are.
        graph: as a `Step` has it, for those of all.
    """

    def __init__(self, steps: Sequence[Step], graph: Callable[..., dict[str, Tensor]] | None = None) -> None:
        self._steps, self._graph, first = steps, graph, steps[0]
        self._begun = False
        self._rows: Tensor | None = None
        """[M, B] which rows of their batches are no padding; None: all."""
        self._learner, self._trial = first.learner, first.trial
        packing = first.learner.packing
        assert packing is not None
        networks = [step.state.model for step in steps]
        widest = packing.widest(networks)
        # Never run with weights of its own: it says what is computed of those it is given.
        self._network = copy.deepcopy(widest).to("meta")
        self._packing = packing
        self._parameters = _Stacked(networks, packing, widest)
        buffers = [
            dict(network.named_buffers()) | _to(packing.passed_by(network, widest), first.device)
            for network in networks
        ]
        self._gathered = {name: [one.pop(name) for one in buffers] for name in gathered(widest)}
        self._buffers = _shared_or_stacked(buffers)
        self._numbers = _tensors([packing.numbers(step.trial, widest) for step in steps], first.device)

    def __call__(self, numbers: Sequence[int], rates: Sequence[tuple[float, float]]) -> list[dict[str, Tensor]]:
        """Make a step of each.

        Args:
            numbers: of the steps, each counted by its training.
            rates: learning rates and KL weights.

        Returns:
            What `Step` returns, of each.

        Raises:
            CannotBatch: at the first step.
        """
        flat = [rate for both in zip(*rates, strict=True) for rate in both]
        if self._begun:
            values = self._made(flat)
        else:
            drawn = [step.state.generator.get_state() for step in self._steps]
            written = [(own, own.clone()) for parts in self._gathered.values() for own in parts]
            try:
                values = self._made(flat)
            except _NoGradients as error:
                for step, state in zip(self._steps, drawn, strict=True):
                    step.state.generator.set_state(state)
                for own, value in written:
                    own.copy_(value)
                raise CannotBatch(str(error)) from error
            self._begun = True
        for step, number in zip(self._steps, numbers, strict=True):
            step.state.average(number)
        each = {name: value.unbind() for name, value in values.items()}
        return [{name: value[member] for name, value in each.items()} for member in range(len(self._steps))]

    def _made(self, rates: Sequence[float]) -> dict[str, Tensor]:
        return self._make(*rates) if self._graph is None else self._graph(self._make, *rates)

    def _make(self, *rates: float | Tensor) -> dict[str, Tensor]:
        """All of the steps but the moving averages: values [M] by name. Rates: M learning rates, M KL weights."""
        learning_rates, kl_weights = rates[: len(self._steps)], rates[len(self._steps) :]
        try:
            means = self._gradients(kl_weights)
        except Exception as error:
            raise _NoGradients(f"{type(error).__name__}: {error}".splitlines()[0]) from error
        norms = []
        for member, (step, rate) in enumerate(zip(self._steps, learning_rates, strict=True)):
            found = step.finish(rate, {name: value[member] for name, value in means.items()})
            norms.append(found["grad_norm"])
        return {**means, "grad_norm": torch.stack(norms)}

    def _gradients(self, kl_weights: Sequence[float | Tensor]) -> dict[str, Tensor]:
        """Leave each training's gradients with its weights; means [M] over a step's batches by name."""
        if not isinstance(kl_weights[0], Tensor):  # one copy for all, which is not waited for
            kl_weights = torch.tensor(kl_weights).to(self._steps[0].device, non_blocking=True).unbind()
        each = torch.stack(
            [torch.as_tensor(step.begin(weight)) for step, weight in zip(self._steps, kl_weights, strict=True)]
        )
        batches = []
        for _ in range(self._trial.accumulation):
            values = self._losses(each)
            (values["loss"].sum() / self._trial.accumulation).backward()
            batches.append({name: value.detach() for name, value in values.items()})
        return mean_of(batches)

    def _losses(self, kl_weights: Tensor) -> dict[str, Tensor]:
        """[M] by name, of the next batch of each."""
        members = [step.inputs() for step in self._steps]
        inputs, dimensions = _stacked_inputs(members)
        if not self._begun:
            self._rows = _rows([len(one[0]) for one in members], kl_weights.device)
        rows = self._rows
        parameters = self._parameters()
        buffers, of_buffers = self._buffers
        written = {name: torch.stack(parts) for name, parts in self._gathered.items()}
        before = {} if self._begun else {name: one.clone() for name, one in buffers.items() if of_buffers[name] == 0}

        def one(
            parameters: Any, buffers: Any, inputs: Any, numbers: Any, kl_weight: Tensor, rows: Tensor | None
        ) -> dict[str, Tensor]:
            with torch.autocast(kl_weights.device.type, torch.bfloat16, enabled=self._steps[0].mixed):
                terms = functional_call(self._network, (parameters, buffers), inputs)
            if rows is not None:
                terms = self._packing.present(terms, rows)
            trial: Any = Numbers(self._trial, numbers)
            return self._learner.loss(trial, terms, kl_weight, Ranks())

        each = torch.vmap(
            one, in_dims=(0, of_buffers | dict.fromkeys(written, 0), dimensions, 0, 0, None if rows is None else 0)
        )
        found: dict[str, Tensor] = each(parameters, buffers | written, inputs, self._numbers, kl_weights, rows)
        for name, value in before.items():
            if not torch.equal(value, buffers[name]):
                raise ValueError(f"a step writes the buffer {name}, which its module does not name as gathered")
        for name, values in written.items():
            for own, value in zip(self._gathered[name], values.unbind(), strict=True):
                own.copy_(value)
        return found


class _Stacked:
    """Parameters of M networks as those [M, ...] of the widest; their gradients come back to each."""

    def __init__(self, networks: Sequence[Any], packing: Packing[Any, Any], widest: Any) -> None:
        positions = [packing.positions(network, widest) for network in networks]
        named = []
        for network in networks:
            own = dict(network.named_parameters())
            named.append({name: own[its] for name, its in packing.names(network, widest).items()})
        self._parts: dict[str, list[Tensor]] = {}
        self._padded: dict[str, tuple[Tensor, torch.Size]] = {}
        """Of the parameters whose shapes differ, or which some have not: places [sum of sizes] in the stack laid flat, and its shape."""
        for name, parameter in widest.named_parameters():
            having = [(member, one[name]) for member, one in enumerate(named) if name in one]
            self._parts[name] = [part for _, part in having]
            if len(having) < len(named) or any(part.shape != parameter.shape for _, part in having):
                shape = torch.Size((len(named), *parameter.shape))
                places = [
                    member * shape[1:].numel() + _places(part, positions[member].get(name), shape[1:])
                    for member, part in having
                ]
                self._padded[name] = torch.cat(places), shape

    def __call__(self) -> dict[str, Tensor]:
        found = {}
        for name, parts in self._parts.items():
            if name not in self._padded:
                found[name] = torch.stack(parts)
                continue
            places, shape = self._padded[name]
            flat = torch.cat([part.flatten() for part in parts])
            found[name] = flat.new_zeros(shape.numel()).index_copy(0, places, flat).view(shape)
        return found


def _places(part: Tensor, positions: tuple[Tensor, ...] | None, shape: torch.Size) -> Tensor:
    """Where the entries of a parameter lie in a wider one laid flat."""
    if positions is None:
        positions = tuple(torch.arange(size) for size in part.shape)
    places = torch.zeros((), dtype=torch.long)
    for dimension, where in enumerate(positions):
        places = places[..., None] + where * math.prod(shape[dimension + 1 :])
    return places.flatten().to(part.device)


def _shared_or_stacked(members: Sequence[dict[str, Tensor]]) -> tuple[dict[str, Tensor], dict[str, int | None]]:
    """Buffers by name, and the dimension of M, None of those that are equal for all: data has them, which trials share."""
    found: dict[str, Tensor] = {}
    dimensions: dict[str, int | None] = {}
    for name, first in members[0].items():
        shared = all(torch.equal(first, one[name]) for one in members[1:])
        found[name] = first if shared else torch.stack([one[name] for one in members])
        dimensions[name] = None if shared else 0
    return found, dimensions


def _stacked_inputs(members: Sequence[tuple[Any, ...]]) -> tuple[tuple[Any, ...], tuple[int | None, ...]]:
    """Inputs of M networks, narrower ones padded with zeros, and the dimension of M, None of what is no tensor: that is alike."""
    found, dimensions = [], []
    for parts in zip(*members, strict=True):
        stacks = isinstance(parts[0], Tensor)
        found.append(torch.stack(_padded(parts)) if stacks else parts[0])
        dimensions.append(0 if stacks else None)
    return tuple(found), tuple(dimensions)


def _padded(parts: Sequence[Tensor]) -> list[Tensor]:
    widest = [max(sizes) for sizes in zip(*(part.shape for part in parts), strict=True)]
    found = []
    for part in parts:
        missing = [size - own for size, own in zip(widest, part.shape, strict=True)]
        found.append(
            F.pad(part, [0, *[one for size in missing[::-1] for one in (0, size)][1:]]) if any(missing) else part
        )
    return found


def _rows(sizes: Sequence[int], device: torch.device) -> Tensor | None:
    """[M, B] bool: which rows of batches of those sizes are no padding; None: all."""
    if len(set(sizes)) == 1:
        return None
    return (torch.arange(max(sizes)) < torch.tensor(sizes)[:, None]).to(device)


def _to(tensors: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def _tensors(members: Sequence[dict[str, float | Tensor]], device: torch.device) -> dict[str, Tensor]:
    """[M, ...] in float32 by name."""
    return {
        name: torch.stack([torch.as_tensor(one[name], dtype=torch.float32).to(device) for one in members])
        for name in members[0]
    }
