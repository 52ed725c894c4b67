"""How long a search will take on this machine, from a short measurement of its recommended values."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from search import plan
from search.plan import Job, Shape, expected_steps, final_steps
from trainables.learner import Learner
from trainables.training.state import TrainingState
from trainables.training.step import Step

WARM_UP, SECONDS = 3, 2.0
"""Most steps before the clock starts, and how long each part runs, but for a step that takes longer."""
START_UP = 30.0
"""Seconds until the first trial begins and after the last final, on two cores."""


@dataclass(frozen=True)
class Estimate:
    """Seconds of one optimizer step and of one report, and what a search is made of, in minutes."""

    step: float
    report: float
    least: float
    most: float

    def __str__(self) -> str:
        minutes = f"{self.least:.0f}" if self.most - self.least < 1 else f"{self.least:.0f} to {self.most:.0f}"
        return (
            f"about {minutes} min, were all trials like the recommended one: here a step of it takes {1000 * self.step:.3g} ms, "
            f"a report {self.report:.2g} s"
        )


def estimate(job: Job, shape: Shape, cache: Path) -> Estimate:
    """Train the recommended values for two seconds on the data, which is prepared.

    The trials of a pack are taken to be no faster together than one after another, as it is on a CPU.
    """
    study, budget = job.study, job.budget
    torch.set_num_threads(shape.cpus_per_worker)
    learner: Learner[Any, Any, Any, Any] = study.system.make_learner()
    places = plan.places(job, cache)
    data = learner.open({name: str(place) for name, place in places.items() if name != "test"})
    trial = study.trial(study.recommended())
    state = TrainingState(trial, lambda: learner.build(trial, data), study.seed, torch.device("cpu"))
    take_step = Step(trial, learner, data, state)
    began, warm, steps = time.perf_counter(), 0, 0
    while warm < WARM_UP and time.perf_counter() - began < SECONDS:
        warm += 1
        take_step(warm, trial.learning_rate, trial.kl_weight)
    began = time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        steps += 1
        take_step(warm + steps, trial.learning_rate, trial.kl_weight)
    per_step = (time.perf_counter() - began) / steps
    began = time.perf_counter()
    learner.evaluate(state.evaluated, data)
    per_report = time.perf_counter() - began

    def minutes(searched: int) -> float:
        of_steps = searched + final_steps(budget)
        reports = of_steps / budget.steps * len(budget.report_steps())
        return (START_UP + (of_steps * per_step + reports * per_report) / shape.lanes) / 60

    return Estimate(
        per_step, per_report, minutes(expected_steps(budget, study.scheduler)), minutes(budget.trials * budget.steps)
    )
