"""The torch side of a system: all that lanes and finals ask of a model family.

    open   sets on disk -> data on a device          build     a trial's network
    draw, inputs, loss     one batch of a step       evaluate  validation metrics at every report
    judge, baselines       errors at the sealed test set, for the finals

The training loop (trainables/training/) calls these and knows nothing else of what it trains.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spaces.card import Card
from spaces.explorer import Explorer
from spaces.study import Study
from spaces.system import Source
from spaces.trial import Trial
from trainables.packing import Packing
from trainables.training.losses import Ranks

if TYPE_CHECKING:  # a lane draws no figures and exports nothing
    from spaces.drawing import Figures
    from trainables.onnx_file import Graph


class Network(nn.Module):
    """A network that can be built again: from its `config`, plain JSON values, and its weights."""

    @property
    def config_dict(self) -> dict[str, Any]:
        """What `Learner.rebuild` takes."""
        raise NotImplementedError


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Without gradients, and with the statistics that it has gathered while it trained."""
    was = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was)


@dataclass(frozen=True)
class Judged:
    """A model or a baseline at the sealed test set.

    `errors` [items] of each per-item metric by its name without prefix, or of the first items where more would take too long; `bytes` is what must be kept of it, `seconds` its time per
    item on the CPU, of a model on one thread. `data` names the set that it is made of, if it is made of one, or of a
    `share` of it; `training` is wall-clock seconds in which it was trained just now.
    """

    errors: dict[str, Tensor]
    bytes: int
    seconds: float
    data: str | None = "train"
    share: float = 1.0
    training: float = 0.0


class Learner[T: Trial, D, N: Network, H](ABC):
    """What a system computes. T: its trial, D: its opened data, N: its network, H: its opened test set."""

    packing: Packing[T, N] | None = None
    """What trainings may differ in and still be batched into one network (trainables/packing.py); None: each is alone."""

    @abstractmethod
    def open(self, sets: Mapping[str, str], device: str | torch.device = "cpu") -> D:
        """Train and validation sets on a device, which is the result's `device`. Opened once per process, for all trials."""

    @abstractmethod
    def build(self, trial: T, data: D) -> N:
        """A trial's network for some data, with random weights from torch's global generator, on the CPU."""

    @abstractmethod
    def rebuild(self, config: dict[str, Any]) -> N:
        """The network of a `config_dict`, also after a way through JSON; its weights are loaded next."""

    def facts(self, sets: Mapping[str, str], study: Study, source: Source) -> dict[str, Any]:
        """What the config.json of an exported model says besides: JSON values by key, enough to use it without the run."""
        return {}

    def presented(self, network: N, record: Mapping[str, Any]) -> nn.Module:
        """What a user gets of a network, given its config.json: itself, unless a system makes more of it.

        Raises:
            ValueError: the record is not of this version.
        """
        return network

    def graphs(self, model: nn.Module) -> dict[str, Graph]:
        """What a user's model computes, by the names of the ONNX files; none unless a system has some.

        Args:
            model: what `presented` gave, or what a user made of it, such as one unit.
        """
        return {}

    @abstractmethod
    def draw(self, trial: T, data: D, generator: torch.Generator) -> tuple[Tensor, ...]:
        """All that is random in a batch, drawn for all ranks: tensors whose first dimension is split among them."""

    @abstractmethod
    def inputs(self, trial: T, data: D, drawn: tuple[Tensor, ...]) -> tuple[Any, ...]:
        """What the network is called with, of this rank's part of what was drawn.

        The call may run under autocast: what is to be exact, such as a KL term, is computed of `at_least_float32` values.
        """

    @abstractmethod
    def loss(self, trial: T, terms: Any, kl_weight: float | Tensor, ranks: Ranks) -> dict[str, Tensor]:
        """`loss`, with gradient, and every other number of a step by its name under `train/`; scalars.

        Args:
            terms: what the network returned.
        """

    def capturable(self, data: D) -> bool:
        """Whether a GPU may make a step once and repeat it without Python (a CUDA graph): `draw`, `inputs` and `loss` do the same at
        every step, with tensors of `data` that stay where they are, and nothing in them or in the network asks for a value."""
        return False

    @abstractmethod
    def evaluate(self, network: N, data: D) -> dict[str, float]:
        """Every `val/` metric. Nothing here depends on a weight of the loss."""

    def pictures(self, network: N, data: D) -> dict[str, Tensor]:
        """Images [3, H, W] in [0, 1] for TensorBoard, by tag."""
        return {}

    def since_last(self, data: D) -> dict[str, float]:
        """More `train/` metrics, counted since the last call."""
        return {}

    @abstractmethod
    def open_test(self, sets: Mapping[str, str]) -> H:
        """The sealed test set on the CPU. Only the finals open it."""

    @abstractmethod
    def judge(self, network: N, test: H) -> Judged:
        """A model at the test set."""

    def complete(self, network: N, sets: Mapping[str, str]) -> None:  # noqa: B027  # most systems have nothing to add
        """What a winner has besides its trained weights: computed once, of prepared sets other than the test set, and exported with it."""

    @abstractmethod
    def baselines(self, sets: Mapping[str, str], test: H, winner: N) -> dict[str, Judged]:
        """What a user would do without the model, by the name that the system declares."""

    def alternatives(
        self, sets: Mapping[str, str], test: H, study: Study, source: Source, winner: N, seconds: float
    ) -> dict[str, Judged]:
        """What takes long to answer, run now, by the name that the system declares; none unless a system has some.

        Args:
            study: what was searched.
            source: what its data is made of.
            seconds: wall-clock time of the winner's training in the search.
        """
        return {}

    def figures(self, network: N, test: H, study: Study) -> Figures:
        """Of a run's winner; they can be drawn again at any time. None unless a system has some.

        Args:
            study: what was searched, whose data section has the units.
        """
        return {}

    def comparison_figures(self, errors: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> Figures:
        """Of how the winner compares with what else was judged, drawn in the finals alone; none unless a system has some.

        Args:
            errors: [S, P] of S trainings at P items of the test set, by metric, of "best", "reference" (if it was judged) and each
                baseline by its name.
        """
        return {}

    def explorer(self, network: N, test: H, study: Study) -> Explorer | None:
        """What the report shows of the winner at work (`results/explorer/`); None unless a system has something to explore."""
        return None

    @abstractmethod
    def card(self, study: Study, source: str) -> Card:
        """What the card of an exported model says; `source` is the name of what its data is made of."""
