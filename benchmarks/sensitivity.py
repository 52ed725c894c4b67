"""Claim: of a search of 40 trials with early stopping, the two hyperparameters that matter most are told in four of five cases.

Searches of random configurations with ASHA's rule are replayed over a recorded table of learning curves (benchmarks/curve_table.py), with a
hyperparameter added that does nothing. `truth` is what all of the table's curves say. Beside `results.sensitivity` stands PED-ANOVA on the
values at the first rung, which every trial has.

    python -m benchmarks.sensitivity
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import optuna

from benchmarks._shared import Options
from benchmarks.curve_table import CurveTable
from results.distributions import distribution
from results.records import TrialRecord
from results.sensitivity import Sensitivity, sensitivity
from spaces.study import Budget, Parameter, Scalar, Study

DUMMY = "weight_decay"
"""Of the trial's fields one that the table does not vary; here it is drawn and changes nothing."""
TOP = 2


def asha(table: CurveTable, budget: Budget, count: int, seed: int) -> list[TrialRecord]:
    """Trials as a search of so many random configurations leaves them: a trial goes on if it is among the best 1 in
    `reduction_factor` of those that have reached its rung."""
    generator = np.random.default_rng(seed)
    reached: dict[int, list[float]] = {step: [] for step in budget.rungs()}
    trials = []
    for number, place in enumerate(generator.permutation(len(table.params))[:count]):
        history: list[tuple[int, float]] = []
        for step in [*budget.rungs(), budget.steps]:
            value = float(table.values[place, table.steps.index(step)])
            history.append((step, value))
            if step in reached:
                reached[step].append(value)
                if sorted(reached[step]).index(value) >= max(1, len(reached[step]) // budget.reduction_factor):
                    break
        params = {**table.params[place], DUMMY: float(generator.random())}
        trials.append(record(number, params, history))
    return trials


def record(number: int, params: dict[str, Scalar], history: list[tuple[int, float]]) -> TrialRecord:
    return TrialRecord(
        number=number,
        state="COMPLETE",
        params=params,
        history=tuple(history),
        values=None,
        step=history[-1][0],
        metrics={},
        seconds=0.0,
        lane=None,
        failure=None,
        decisions=(),
        violation=0.0,
        recommended=False,
        started=None,
        ended=None,
    )


def ped_anova(trials: list[TrialRecord], study: Study, step: int) -> list[str]:
    """Hyperparameters by PED-ANOVA's importance at a step that all trials have reported at, the largest first."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    copy = optuna.create_study()
    known = {name: distribution(study, name) for name in study.search}
    for trial in trials:
        value = trial.at(step)
        assert value is not None
        copy.add_trial(optuna.trial.create_trial(params=trial.params, distributions=known, value=value))
    quantile = max(0.1, min(0.5, 5 / len(trials)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=quantile).evaluate(copy)
    return sorted(found, key=lambda name: -found[name])


def covered(found: Sensitivity, truth: Sensitivity) -> list[bool]:
    """Of each point of each curve: whether its interval holds the true value, both curves about their own means."""
    true = {one.name: one for one in truth.effects}
    inside = []
    for one in found.effects:
        mine = np.log([[point.low, point.mean, point.high] for point in one.response])
        theirs = np.log([point.mean for point in true[one.name].response])
        mine, theirs = mine - mine[:, 1].mean(), theirs - theirs.mean()
        inside += [bool(low <= at <= high) for (low, _, high), at in zip(mine, theirs, strict=True)]
    return inside


def main() -> None:
    options = Options(__doc__)
    options.add_size("--seeds", 20, 1, "replays")
    options.add_argument("--trials", type=int, nargs="+", default=[20, 40])
    arguments = options.parse()
    table = CurveTable.read()
    dummy = Parameter(low=0.0, high=1.0, recommended=0.0, source="none")
    study = table.study.model_copy(update={"search": {**table.study.search, DUMMY: dummy}})
    budget = Budget(trials=1, steps=table.steps[-1], grace_steps=40, evaluate_every=40)
    generator = np.random.default_rng(0)
    everything = [
        record(
            number, {**params, DUMMY: float(generator.random())}, [*zip(table.steps, map(float, values), strict=True)]
        )
        for number, (params, values) in enumerate(zip(table.params, table.values, strict=True))
    ]
    truth = sensitivity(everything, study, budget)
    show(f"all {len(everything)} curves", truth)
    best = {one.name for one in truth.effects[:TOP]}
    for count in arguments.trials:
        hits: dict[str, int] = {"sensitivity": 0, "PED-ANOVA": 0}
        high, inside, last = 0, list[bool](), None
        for seed in range(arguments.seeds):
            trials = asha(table, budget, count, seed)
            last = sensitivity(trials, study, budget)
            hits["sensitivity"] += {one.name for one in last.effects[:TOP]} == best
            hits["PED-ANOVA"] += set(ped_anova(trials, study, budget.grace_steps)[:TOP]) == best
            high += sum(one.level == "High" for one in last.effects if one.name == DUMMY)
            inside += covered(last, truth)
        assert last is not None
        shares = ", ".join(f"{name} {number / arguments.seeds:.2f}" for name, number in hits.items())
        print(
            f"{count} trials, {arguments.seeds} replays: both found by {shares}; curves' intervals hold covered={np.mean(inside):.3f} of the true values; "
            f"what does nothing called High {high} times"
        )
        show("the last replay", last)


def show(title: str, found: Any) -> None:
    print(f"{title}, at step {found.step}:")
    for one in found.effects:
        factor = f"{one.effect.mean:.2f} [{one.effect.low:.2f}, {one.effect.high:.2f}]"
        print(f"  {one.name:16}{one.share:6.3f}  {factor:22}{one.level or 'not told'}")


if __name__ == "__main__":
    main()
