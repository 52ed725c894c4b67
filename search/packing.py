"""How many trials a lane trains at once, and why."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from spaces.study import Study

TRIALS_PER_GPU = 8
"""At once. Each is suggested without knowing how the others come out, so they are fewer than half of a quick search's trials."""


@dataclass(frozen=True)
class PackSize:
    """So many places of each lane, and why."""

    places: int
    why: str

    def __str__(self) -> str:
        return f"{self.places}: {self.why}"


ONE = PackSize(1, "")


def pack(study: Study, trials: int, lanes: int | None = None, room: int | None = None) -> PackSize:
    """The pack of a search: as asked for (`resources.pack`), or by this rule.

    A step of a small network leaves a GPU idle for most of its time, as each of its kernels is launched one by one. Networks that
    train together share the launches. So a whole GPU has `TRIALS_PER_GPU` trials at once, a part of one as much of them, and there
    are no more than trials to fill them. A CPU is busy with one network, several workers share one trial's batch, and a compiled
    network cannot be batched with others: they have a pack of 1.

    Args:
        lanes: None if it is not known yet how many there are.
        room: places of each lane that there is memory for, at least 1; None if that is not known.
    """
    need = study.resources
    if need.pack != "auto":
        slower = "" if need.gpus_per_worker else ", though on a CPU batching does not pay"
        at_once = f"; {need.pack} trials begin before one has come out" if need.pack > 1 else ""
        return PackSize(need.pack, f"as asked for{slower}{at_once}")
    if need.workers_per_trial > 1:
        return PackSize(1, "the workers of a lane share one trial")
    if not need.gpus_per_worker:
        return PackSize(1, "on a CPU batching does not pay")
    if need.compile:
        return PackSize(1, "compiled networks are not batched")
    share = min(1.0, need.gpus_per_worker)
    places = max(1, int(share * TRIALS_PER_GPU))
    most = ceil(trials / (lanes or 1))
    if most < places:
        return PackSize(most, f"there are {trials} trials for {lanes or 1} lanes")
    if room is not None and room < places:
        return PackSize(room, "there is memory for so many")
    of = "a GPU" if share == 1 else f"{share:g} of a GPU"
    return PackSize(places, f"{of} trains small networks faster together" if places > 1 else f"{of} is for one")
