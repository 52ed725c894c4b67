"""A small space, so that samplers are quick, the value of its trials in closed form, and its study's file."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.trial import FrozenTrial, TrialState

from results.run_directory import RunDirectory, SourceRecord
from search.ledger import Ledger
from search.searcher import open_ledger
from spaces.loading import load
from spaces.study import Study
from tests.results.conftest import record_of

NAMES = ("learning_rate", "num_layers", "lr_schedule")
METRIC = "val/prior_rel_l2"
PRESET: Final = "quick"
RUNGS, STEPS = (200, 600), 1800
BUDGET = {"trials": 18, "steps": STEPS, "grace_steps": RUNGS[0], "reduction_factor": 3, "evaluate_every": 200}
PARETO = {"scheduler": "none", "further_objectives": [{"metric": "val/prior_psnr", "mode": "max"}]}
# Ranges of a resumed run; `inside` tells which trials they still hold.
CHANGES = {"learning_rate": {"high": 2e-4}, "lr_schedule": {"choices": ["constant", "cosine"]}}


def small(*names: str, **changes: Any) -> Study:
    """The shipped space with only some searched parameters, `NAMES` unless told, a budget of its own, and other keys changed."""
    tree = load("cvae_psf").model_dump(mode="json", exclude_none=True)
    tree["search"] = {name: tree["search"][name] for name in names or NAMES}
    tree["budget"][PRESET] = BUDGET
    study = Study.model_validate(tree | {"points_to_evaluate": []} | changes)
    preparation = study.system.make_preparation()  # as a run records it
    return study.model_copy(update={"data": preparation.resolved(study.data, preparation.find(study.data))})


def edited(space: Study, **keys: Any) -> Study:
    """A study with keys of its searched parameters replaced, `learning_rate={"high": 1e-2}`, as a resumed run's."""
    tree = space.model_dump(mode="json", exclude_none=True)
    for name, changes in keys.items():
        tree["search"][name] |= changes
    return Study.model_validate(tree)


def value(params: dict[str, Any], step: int) -> float:
    """Falls with the steps; best at a learning rate of 3e-4, few layers and a schedule. Positive."""
    decades = abs(math.log10(params["learning_rate"] / 3e-4))
    floor: float = 1 + decades + 0.1 * params["num_layers"] + 0.3 * (params["lr_schedule"] == "constant")
    return floor * (1 + 100 / step)


def open_at(path: Path, space: Study, earlier: Sequence[FrozenTrial] = ()) -> Ledger:
    """The study "small" in the file `path`."""
    return open_ledger(f"sqlite:///{path}", "small", space, space.budget[PRESET], earlier)


def stored(path: Path) -> list[FrozenTrial]:
    """What Optuna itself reads from the file."""
    return optuna.load_study(study_name="small", storage=f"sqlite:///{path}").get_trials()


def run_of(path: Path, space: Study, trials: int = 0) -> RunDirectory:
    """A run's directory as a search of so many trials leaves it; each has reported once and was then stopped."""
    run, preparation = RunDirectory(path), space.system.make_preparation()
    lens = preparation.find(space.data)
    record = record_of(run.name).model_copy(
        update={
            "study": space.model_dump(mode="json", exclude_none=True),
            "source": SourceRecord(name=lens.name, sha256=lens.sha256),
            "data": {
                name: str(place) for name, place in preparation.places(space.data, lens, space.seed, path).items()
            },
        }
    )
    run.create(record)
    ledger = open_ledger(run.storage_url, run.name, space, space.budget[PRESET])
    for _ in range(trials):
        number, params = ledger.ask()
        reached = value(params, RUNGS[0])
        ledger.note(number, progress={"step": RUNGS[0], "metrics": {METRIC: reached, "val/kl": 1.0 + number}})
        ledger.report(number, RUNGS[0], reached)
        ledger.tell(number, TrialState.PRUNED, None)
    ledger.close()
    return run


def play(ledger: Ledger, space: Study, trials: int, until: Callable[[int], int] = lambda number: STEPS) -> None:
    """So many trials one after another; those that go `until` the last step are complete."""
    for _ in range(trials):
        number, params = ledger.ask()
        last = until(number)
        for step in (*RUNGS, STEPS):
            if step <= last:
                ledger.report(number, step, value(params, step))
        if last == STEPS:
            values = [value(params, STEPS), 1 / value(params, STEPS)]
            ledger.tell(number, TrialState.COMPLETE, values[: len(space.objectives)])
        else:
            ledger.tell(number, TrialState.PRUNED, None)


def inside(params: dict[str, Any]) -> bool:
    """Whether a trial lies in the ranges of `CHANGES`."""
    return bool(params["learning_rate"] <= 2e-4 and params["lr_schedule"] != "one_cycle")
