"""A system: what one model family is to everything that is generic (docs/add-a-model.md).

It declares its hyperparameters, its data section and its metrics here, in plain typed objects, so that a space is checked
without torch or ray; it names the two parts that need them, which are imported where they are used:

    preparation   finds what the data is made of, and makes the data sets: used by the driver
    learner       loads data, builds networks, computes losses and errors: used by the lanes and the finals (trainables/learner.py)
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from spaces.frozen import Frozen
from spaces.metrics import HELD_OUT, Metric
from spaces.trial import Trial

# The shipped systems: name -> the module that has it as `SYSTEM`. A space may also name a module itself.
SYSTEMS = {
    "cvae_psf": "trainables.psf.system",
    "vae_image": "trainables.images.system",
    "cvae_asbuilt": "trainables.asbuilt.system",
}
# Exports and checkpoints of the first versions did not name their system: there was one.
BEFORE_SYSTEMS: dict[str, Any] = {"system": "cvae_psf", "system_version": 2}
MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")

Progress = Callable[[int, int, str], None]
"""Called with items done, items in all, and how fast it goes, in words."""


class DataSection(Frozen):
    """Base of a system's `data` section."""

    @property
    def uses_actors(self) -> bool:
        """Ray actors or tasks make the data, so CPUs are kept for them."""
        return False

    @property
    def streams(self) -> bool:
        """Actors go on making data while trials train."""
        return False

    def measures(self, metric: str) -> bool:
        """Whether trials on such data report a metric of their system."""
        return True

    def check(self, trial: Any) -> None:
        """Whether a trial can train on this data.

        Raises:
            ValueError: it cannot: both values, and what would go together.
        """


@dataclass(frozen=True)
class Source:
    """What a data set is made of, such as a lens file. `sha256` is that of its content."""

    name: str
    path: Path
    sha256: str


@dataclass(frozen=True)
class Prepared:
    """A data set that is there.

    `sets` maps train, validation and test to absolute directories, and may have more for the learner. `work` says what was
    done for it, by name, such as rays traced: nothing if all was there. `warnings` are sentences for the user. `cpu_seconds` is
    what making each set took, whenever that was, of those of which it is known.
    """

    sets: dict[str, str]
    work: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    cpu_seconds: Mapping[str, float] = field(default_factory=dict)


class Supply:
    """What goes on beside the trials to give them data; this one does nothing."""

    sets: Mapping[str, str] = {}
    """Beside those of `Prepared`."""

    def work(self) -> dict[str, int]:
        """What has been done so far, as in `Prepared`."""
        return {}

    def failure(self) -> str | None:
        """Why it ended before the trials, if it did."""
        return None


class Preparation[D: DataSection](ABC):
    """How a system's data sets are made. It may use Ray. It imports torch, which takes seconds, only where it has to."""

    @abstractmethod
    def find(self, data: D) -> Source:
        """What the data is made of, checked before any work starts.

        Raises:
            SpaceError: it is missing or malformed.
        """

    def resolved(self, data: D, source: Source) -> D:
        """The data section that a run records: no path relative to today's folder."""
        return data

    @abstractmethod
    def places(self, data: D, source: Source, seed: int, cache: Path) -> dict[str, Path]:
        """Where the sets lie, or will: directories of the cache named by the hash of all that determines them."""

    @abstractmethod
    def prepare(
        self, data: D, source: Source, seed: int, cache: Path, actors: int, progress: Progress | None = None
    ) -> Prepared:
        """Have the sets in the cache, making what is missing or damaged.

        Args:
            actors: Ray actors or tasks at a time to make them with; 0 works in this process.
        """

    def supply(self, data: D, source: Source, seed: int, actors: int) -> AbstractContextManager[Supply]:
        """What makes data while trials train."""
        return nullcontext(Supply())

    def describe(self, data: D, source: Source) -> dict[str, str]:
        """Lines of the plan by their heading."""
        return {"data set": source.name}


@dataclass(frozen=True)
class Baseline:
    """What a user would do without a model: its name, and what tables call it.

    One that `asks_the_source` needs at hand what the data is made of, such as the lens.
    """

    name: str
    title: str
    asks_the_source: bool = False


@dataclass(frozen=True)
class System:
    """What one model family declares.

    Args:
        name: of `SYSTEMS`, or the module that has it; checkpoints and exports carry it.
        version: of what its exports hold; raised when they change.
        trial: its hyperparameters.
        data: its data section.
        metrics: all that its trials report, by full name.
        baselines: the simplest first; the last is the yardstick, which a model has to beat.
        item: what one held-out item is called, such as "PSF".
        what: what its data sets are made of, such as "lens".
        preparation: `module:class` of the part that makes its data.
        learner: `module:class` of the part that computes.
        doing: what is shown while its data is prepared.
    """

    name: str
    version: int
    trial: type[Trial]
    data: type[DataSection]
    metrics: dict[str, Metric]
    baselines: tuple[Baseline, ...]
    item: str
    what: str
    preparation: str
    learner: str
    doing: str = "preparing data"

    def make_preparation(self) -> Preparation[Any]:
        """Its preparation."""
        found: Preparation[Any] = _load(self.preparation)()
        return found

    def make_learner(self) -> Any:
        """Its learner, a `trainables.learner.Learner`; this imports torch."""
        return _load(self.learner)()

    @property
    def objectives(self) -> tuple[str, ...]:
        """What a search may optimise: a direction, a value for each held-out item, and no swept weight inside."""
        return tuple(
            name
            for name, one in self.metrics.items()
            if one.per_item and one.mode and not one.diagnostic and name.startswith(HELD_OUT)
        )

    @property
    def measured(self) -> tuple[str, ...]:
        """All metrics on the validation set."""
        return tuple(name for name in self.metrics if name.startswith(HELD_OUT))


@cache
def system(name: str) -> System:
    """A system by shipped name, or by the module that has it as `SYSTEM`.

    Raises:
        LookupError: what there is instead.
    """
    module = SYSTEMS.get(name)
    if module is None and MODULE.fullmatch(name):
        module = name
    if module is None:
        raise LookupError(f"no system '{name}', shipped or as a module")
    try:
        found = import_module(module).SYSTEM
    except (ModuleNotFoundError, AttributeError) as error:
        raise LookupError(f"module {module} has no system: {error}") from None
    if not isinstance(found, System) or found.name != name:
        raise LookupError(f"{module}.SYSTEM is not a System named '{name}'")
    return found


def _load(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
