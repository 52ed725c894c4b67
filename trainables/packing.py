"""What trainings of one system may differ in and still make their steps as one batched network."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from spaces.trial import Trial

if TYPE_CHECKING:  # learners import this
    from trainables.learner import Network

OUTSIDE = frozenset(
    {
        "kl_weight",
        "kl_schedule",
        "kl_warmup",
        "kl_cycles",
        "target_rate",
        "optimizer",
        "learning_rate",
        "lr_schedule",
        "lr_warmup",
        "lr_cycles",
        "momentum",
        "weight_decay",
        "grad_clip",
        "ema_width",
        "plateau",
    }
)
"""Hyperparameters of every training that the network and its loss know nothing of."""


def gathered(network: nn.Module) -> list[str]:
    """The buffers that a network's training steps write, by name: each module tells its own as `gathered`."""
    modules = network.named_modules()
    return [f"{path}{'.' if path else ''}{name}" for path, one in modules for name in getattr(one, "gathered", ())]


Positions = dict[str, tuple[Tensor, ...]]
"""Name of a parameter -> for each of its dimensions, where its entries lie in a wider one; those of equal shape are left out."""


class Packing[T: Trial, N: Network]:
    """Trainings that differ in `OUTSIDE`, in their seeds and in some numbers of the loss; networks of equal shape.

    Args:
        numbers: hyperparameters that the loss may be given as tensors.
    """

    def __init__(self, numbers: Collection[str]) -> None:
        self._numbers = frozenset(numbers)

    def alike(self, trial: T) -> Hashable:
        """Equal for trials that can be batched."""
        free = OUTSIDE | self._numbers | self.widths(trial)
        return trial.model_dump_json(exclude=set(free))

    def widths(self, trial: T) -> frozenset[str]:
        """Sizes of layers that may differ too: narrower ones are padded with zeros."""
        return frozenset()

    def numbers(self, trial: T, widest: N) -> dict[str, float | Tensor]:
        """What the loss is given in place of a trial's own, by name: equal shapes for all trials."""
        return {name: getattr(trial, name) for name in self._numbers}

    def widest(self, networks: Sequence[N]) -> N:
        """The network that all of them can be padded to."""
        return networks[0]

    def names(self, network: N, widest: N) -> dict[str, str]:
        """A network's own names of the parameters by those of the widest; what a network has not is zero."""
        return {name: name for name, _ in network.named_parameters()}

    def positions(self, network: N, widest: N) -> Positions:
        """Where the parameters of a network, by the names of the widest, lie in those."""
        return {}

    def passed_by(self, network: N, widest: N) -> dict[str, Tensor]:
        """Buffers of the widest that say what of it a network has not, by name."""
        return {}

    def present(self, terms: Any, rows: Tensor) -> Any:
        """Terms of a batch with padded rows: nothing of those that are not `rows` [B], bool."""
        raise NotImplementedError


class Numbers:
    """A trial, some of whose numbers are tensors."""

    def __init__(self, trial: Trial, numbers: dict[str, Any]) -> None:
        self._trial, self._numbers = trial, numbers

    def __getattr__(self, name: str) -> Any:
        numbers = self.__dict__["_numbers"]
        return numbers[name] if name in numbers else getattr(self.__dict__["_trial"], name)
