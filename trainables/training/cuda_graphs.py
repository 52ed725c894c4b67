"""Steps of a training as one CUDA graph: a small network keeps Python busy launching kernels while the GPU waits for them.

A whole step is captured once (drawing, forward and backward pass, clipping, the optimizer's update) and launched again for each
step that follows. What differs from step to step lies in tensors that stay where they are: weights, moments, random numbers, rates.
Nobody has to believe that this is right: a graph is used only after it has made the same two steps as kernels launched one by one.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from trainables.training.state import TrainingState

logger = logging.getLogger(__name__)

WARM_UP = 3
"""Steps before the capture: they make what no graph may hold, such as moments, plans of FFTs and libraries' handles."""
SAME, SAME_WAY = 0.01, 0.1
"""What the same steps may differ by, with and without the graph: each of their values by a hundredth, or a thousandth of the loss, and
the weights by so much of the way that they went. Some kernels add in whatever order their threads come, and Adam makes whole steps of
gradients that are nothing but rounding. Other random numbers are off by more than the former, an update left out by more than the latter."""

Values = dict[str, Tensor]
Function = Callable[..., Values]
"""A step: of its rates, tensors, the numbers that it consists of. All else that it reads and changes is the training's state, or stays."""
Replay = Callable[[], object]
Capture = Callable[[Callable[[], Values], TrainingState, torch.cuda.Stream | None], tuple[Values, Replay]]
"""Of a step, given its rates: its values, which each replay overwrites, and the replay. It makes no step itself."""


class StepGraph:
    """Makes a training's steps: the first one kernel at a time, and all later ones by a CUDA graph, if that can be had.

    Where a step waits for the device, its capture fails, or the graph's steps are not the same, the log says so and all steps are
    made one kernel at a time. In any case each is made once, with the random numbers that it would have had.

    Args:
        state: the training's, on its device.
        capture: what captures a step.
    """

    broken: ClassVar[bool] = False
    """A capture has failed in this process. What that leaves behind depends on torch's version: none is tried again."""

    def __init__(self, state: TrainingState, capture: Capture | None = None) -> None:
        self._state, self._capture = state, capture or captured
        self._device = state.generator.device
        # A capture needs another stream than the default one, and on it what a step makes only once.
        self._stream = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None
        self._rates: list[Tensor] = []
        self._made = 0
        self._possible = not StepGraph.broken
        self._values: Values = {}
        self._replay: Replay | None = None

    def __call__(self, function: Function, *rates: float) -> Values:
        """A step's values, which the next call overwrites. Rates are rounded to float32, as fused optimizers on a GPU take them."""
        self._set(rates)
        if self._possible and self._made == WARM_UP:
            self._try(function, rates)
        self._made += 1
        if self._replay is not None:
            self._replay()
            return self._values
        if self._made != WARM_UP:
            with self._aside():
                return function(*self._rates)
        with self._aside(), _waits(self._device) as found:
            values = function(*self._rates)
        if found:
            self._refuse(f"a step waits for the device: {found[0]}")
        return values

    def _set(self, rates: tuple[float, ...]) -> None:
        self._rates = self._rates or [torch.zeros((), device=self._device) for _ in rates]
        for tensor, rate in zip(self._rates, rates, strict=True):
            tensor.fill_(rate)

    def _try(self, function: Function, rates: tuple[float, ...]) -> None:
        """Capture a step, and keep the graph if its steps are the same; afterwards the state is what it was."""
        state, before = self._state, {name: tensor.clone() for name, tensor in self._state.tensors().items()}

        def step() -> Values:
            return function(*self._rates)

        def two(step: Callable[[], Values]) -> _Steps:
            """Two steps, which are then undone."""
            values, began = [], self._weights()
            for factor in (1.0, 0.5):  # the graph has to hear of other rates
                self._set(tuple(factor * rate for rate in rates))
                values.append({name: float(value) for name, value in step().items()})
            made = _Steps(values, self._weights() - began)
            state.rewind(before)
            self._set(rates)
            return made

        with self._aside():
            without = two(step)
        try:
            values, replay = self._capture(step, state, self._stream)

            def replayed() -> Values:
                replay()
                return values

            by_graph = two(replayed)
        except Exception as error:
            StepGraph.broken = True
            state.rewind(before)
            self._refuse(f"{type(error).__name__}: {error}".splitlines()[0])
            return
        if (reason := by_graph.differ_from(without)) is not None:
            self._refuse(reason)
            return
        logger.info("steps are made by a CUDA graph")
        self._values, self._replay = values, replay

    def _weights(self) -> Tensor:
        return parameters_to_vector(weight.detach() for weight in self._state.model.parameters())

    def _refuse(self, reason: str) -> None:
        logger.warning("steps are made without a CUDA graph: %s", reason)
        self._possible, self._stream = False, None

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """On the stream of the capture, after what was asked for before and before what is asked for later."""
        if self._stream is None:
            yield
            return
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            yield
        current.wait_stream(self._stream)


class _Steps(NamedTuple):
    """What some steps consist of, and the way of the weights."""

    values: Sequence[Mapping[str, float]]
    way: Tensor

    def differ_from(self, others: _Steps) -> str | None:
        """By more than the order of sums: in what."""
        for values, expected in zip(self.values, others.values, strict=True):
            for name, value in expected.items():
                found = values.get(name, math.nan)
                if not abs(found - value) <= SAME * max(abs(value), abs(expected["loss"]) / 10):
                    return f"by it train/{name} would be {found:.6g}, not {value:.6g}"
        off = float((self.way - others.way).norm() / others.way.norm().clamp_min(torch.finfo(torch.float32).tiny))
        return None if off <= SAME_WAY else f"by it the weights would go astray by {off:.2g} of their way"


def captured(
    step: Callable[[], Values], state: TrainingState, stream: torch.cuda.Stream | None
) -> tuple[Values, Replay]:
    """The `Capture` of CUDA."""
    graph = torch.cuda.CUDAGraph()
    with warnings.catch_warnings():
        # Later versions than 2.11 find out by themselves, and warn.
        warnings.simplefilter("ignore")
        graph.register_generator_state(state.generator)
    adam = [group for group in state.optimizer.param_groups if "capturable" in group]
    try:
        for group in adam:
            group["capturable"] = (
                True  # a fused optimizer is; asked for from the start, it would warn in steps that are not
            )
        with torch.cuda.graph(graph, stream=stream):
            values = step()
    except Exception:
        # Up to 2.11 generators believe that they are still in the capture, and give nothing any more; a copy does not.
        default = torch.cuda.default_generators[torch.cuda.current_device()]
        for generator in (state.generator, default):
            generator.graphsafe_set_state(generator.clone_state())
        graph.reset()
        raise
    finally:
        for group in adam:
            group["capturable"] = False
    return values, graph.replay


@contextmanager
def _waits(device: torch.device) -> Iterator[list[str]]:
    """Fills the list, when it is left, with what has made Python wait for the device. A capture that does so fails."""
    found: list[str] = []
    if device.type != "cuda":
        yield found
        return
    was = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            yield found
    finally:
        torch.cuda.set_sync_debug_mode(was)
    told = (one for one in heard if "synchronizing CUDA operation" in str(one.message))
    found += [f"{one.filename}:{one.lineno}" for one in told]
