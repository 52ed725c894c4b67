"""Steps of a training, or of several that are batched, as one CUDA graph: a small network keeps Python busy launching kernels while the
GPU waits for them.

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
from functools import cache, partial
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from trainables.training.state import TrainingState

logger = logging.getLogger(__name__)

WARM_UP = 10
"""Steps before the capture: they make what no graph may hold, such as moments, plans of FFTs and libraries' handles. A capture, with
the steps that prove it, takes as long: a batch whose trainings soon are others loses little by it."""
SAME, SAME_WAY = 0.01, 0.1
"""What the same steps may differ by, with and without the graph: each of their values by a hundredth, or a thousandth of the loss, and
the weights by so much of the way that they went. Some kernels add in whatever order their threads come, and Adam makes whole steps of
gradients that are nothing but rounding. Other random numbers are off by more than the former, an update left out by more than the latter."""

Values = dict[str, Tensor]
"""A number for each training: tensors of shape [], or [M] of M trainings."""
Function = Callable[..., Values]
"""A step: of its rates, tensors, the numbers that it consists of. All else that it reads and changes is the trainings' states, or stays."""
Replay = Callable[[], object]
Capture = Callable[[Callable[[], Values], Sequence[TrainingState], torch.cuda.Stream | None], tuple[Values, Replay]]
"""Of a step, given its rates: its values, which each replay overwrites, and the replay. It makes no step itself."""


class StepGraph:
    """Makes steps: the first one kernel at a time, and all later ones by a CUDA graph, if that can be had.

    Where a step waits for the device, its capture fails, or the graph's steps are not the same, the log says so and all steps are
    made one kernel at a time. In any case each is made once, with the random numbers that it would have had.

    Args:
        states: of the training, or of those that are batched, on their device.
        capture: what captures a step.
        shared: other threads use the device meanwhile.
    """

    broken: ClassVar[bool] = False
    """A capture has failed in this process. What that leaves behind depends on torch's version: none is tried again."""

    def __init__(
        self, states: Sequence[TrainingState], capture: Capture | None = None, *, shared: bool = False
    ) -> None:
        self._states, self._capture, self._shared = tuple(states), capture, shared
        self._device = states[0].generator.device
        self._stream = _stream(self._device)
        self._rates = torch.zeros(0)
        self._made = 0
        self._possible = True
        self._values: Values = {}
        self._replay: Replay | None = None

    @classmethod
    def joined(cls, graphs: Sequence[Self]) -> Self:
        """For steps of all their trainings at once."""
        first = graphs[0]
        return cls([state for graph in graphs for state in graph._states], first._capture, shared=first._shared)

    def __call__(self, function: Function, *rates: float) -> Values:
        """A step's values, which the next call overwrites. Rates are rounded to float32, as fused optimizers on a GPU take them."""
        self._set(rates)
        if self._possible and self._made == WARM_UP and not StepGraph.broken:
            self._try(function, rates)
        self._made += 1
        if self._replay is not None:
            self._replay()
            return self._values
        if self._made != WARM_UP:
            with self._aside():
                return function(*self._rates)
        # Where others use the device, it is not told who waits for it.
        with self._aside(), _waits(self._device, look=not self._shared) as found:
            values = function(*self._rates)
        if found:
            self._refuse(f"a step waits for the device: {found[0]}")
        return values

    def _set(self, rates: Sequence[float]) -> None:
        if not self._made:
            self._rates = torch.zeros(len(rates), device=self._device)
        # From pageable memory: it has been read when this returns, and the device is not waited for.
        self._rates.copy_(torch.tensor(rates), non_blocking=True)

    def _try(self, function: Function, rates: tuple[float, ...]) -> None:
        """Capture a step, and keep the graph if its steps are the same; afterwards the state is what it was."""
        before = [{name: tensor.clone() for name, tensor in state.tensors().items()} for state in self._states]

        def rewind() -> None:
            for state, tensors in zip(self._states, before, strict=True):
                state.rewind(tensors)
            self._set(rates)

        def failed(error: Exception) -> None:
            rewind()
            self._refuse(f"{type(error).__name__}: {error}".splitlines()[0])

        def step() -> Values:
            return function(*self._rates)

        def two(step: Callable[[], Values]) -> _Steps:
            """Two steps, which are then undone."""
            values, began = [], self._weights()
            for factor in (1.0, 0.5):  # the graph has to hear of other rates
                self._set(tuple(factor * rate for rate in rates))
                values.append({name: value.to("cpu", copy=True) for name, value in step().items()})
            made = _Steps(values, [after - before for after, before in zip(self._weights(), began, strict=True)])
            rewind()
            return made

        try:
            with self._aside():
                without = two(step)
        except Exception as error:  # such as for want of the memory that this takes
            failed(error)
            return
        try:
            capture = self._capture or partial(captured, shared=self._shared)
            values, replay = capture(step, self._states, self._stream)

            def replayed() -> Values:
                replay()
                return values

            by_graph = two(replayed)
        except Exception as error:
            StepGraph.broken = True
            failed(error)
            return
        if (reason := by_graph.differ_from(without)) is not None:
            self._refuse(reason)
            return
        # Batches come and go with each report.
        logger.log(logging.DEBUG if len(self._states) > 1 else logging.INFO, "steps are made by a CUDA graph")
        self._values, self._replay = values, replay

    def _weights(self) -> list[Tensor]:
        return [parameters_to_vector(weight.detach() for weight in state.model.parameters()) for state in self._states]

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
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            current.wait_stream(self._stream)


class _Steps(NamedTuple):
    """What some steps consist of, and the way of each training's weights."""

    values: Sequence[Mapping[str, Tensor]]
    ways: Sequence[Tensor]

    def differ_from(self, others: _Steps) -> str | None:
        """By more than the order of sums: in what."""
        for values, expected in zip(self.values, others.values, strict=True):
            for name, value in expected.items():
                found = values.get(name, torch.full_like(value, math.nan))
                same = (found - value).abs() <= SAME * torch.maximum(value.abs(), expected["loss"].abs() / 10)
                if not same.all():
                    ours, right = (float(of[~same][0]) for of in (found, value))
                    return f"by it train/{name} would be {ours:.6g}, not {right:.6g}"
        tiny = torch.finfo(torch.float32).tiny
        for way, other in zip(self.ways, others.ways, strict=True):
            off = float((way - other).norm() / other.norm().clamp_min(tiny))
            if not off <= SAME_WAY:
                return f"by it the weights would go astray by {off:.2g} of their way"
        return None


@cache
def _stream(device: torch.device) -> torch.cuda.Stream | None:
    """Of all captures, and of the steps before them: memory that one frees, and libraries' workspaces, are another's only there.

    A capture needs another stream than the default one, and on it what a step makes only once.
    """
    return torch.cuda.Stream(device) if device.type == "cuda" else None


@cache
def _memory(stream: torch.cuda.Stream | None) -> tuple[Any, torch.cuda.CUDAGraph]:
    """Of all graphs of this process: none is launched while another runs, and what one leaves there is read before.

    An empty graph comes with it, to be kept: torch takes no more captures into memory whose graphs are all gone, while gradients
    still lie there.
    """
    pool, keeper = torch.cuda.graph_pool_handle(), torch.cuda.CUDAGraph()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is empty
        with torch.cuda.graph(keeper, pool=pool, stream=stream, capture_error_mode="thread_local"):
            pass
    return pool, keeper


def captured(
    step: Callable[[], Values],
    states: Sequence[TrainingState],
    stream: torch.cuda.Stream | None,
    *,
    shared: bool = False,
) -> tuple[Values, Replay]:
    """The `Capture` of CUDA. `shared`: other threads go on meanwhile, with what a capture would forbid."""
    graph = torch.cuda.CUDAGraph()
    with warnings.catch_warnings():
        # Later versions than 2.11 find out by themselves, and warn.
        warnings.simplefilter("ignore")
        for state in states:
            graph.register_generator_state(state.generator)
    adam = [group for state in states for group in state.optimizer.param_groups if "capturable" in group]
    mode = "thread_local" if shared else "global"
    try:
        for group in adam:
            group["capturable"] = (
                True  # a fused optimizer is; asked for from the start, it would warn in steps that are not
            )
        pool, _ = _memory(stream)
        with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode=mode):
            values = step()
    except Exception:
        # Up to 2.11 generators believe that they are still in the capture, and give nothing any more; a copy does not.
        default = torch.cuda.default_generators[torch.cuda.current_device()]
        for generator in (*(state.generator for state in states), default):
            generator.graphsafe_set_state(generator.clone_state())
        graph.reset()
        raise
    finally:
        for group in adam:
            group["capturable"] = False
    return values, graph.replay


@contextmanager
def _waits(device: torch.device, *, look: bool) -> Iterator[list[str]]:
    """Fills the list, when it is left, with what has made Python wait for the device. A capture that does so fails."""
    found: list[str] = []
    if device.type != "cuda" or not look:
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
