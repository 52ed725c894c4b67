"""Typed model of a space file: what is searched, on which data, scored how, within which budget."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, SerializeAsAny, ValidationInfo, field_validator, model_validator

from spaces.frozen import Frozen
from spaces.metrics import Mode
from spaces.seeding import LARGEST_SEED
from spaces.system import DataSection, System, system
from spaces.trial import Trial

Scalar = bool | int | float | str
Impact = Literal["High", "Medium", "Low"]
LARGEST_PACK = 64
MIN_TRIALS = 16
"""Under so many trials nothing is said of how much a hyperparameter matters."""


class Parameter(Frozen):
    """One searched hyperparameter: a numeric range (`low`, `high`) or a list of `choices`.

    `recommended` is the value of the source document, `impact` its label there; both are reported beside what the
    search finds. `when` makes the parameter conditional: {other parameter: values for which this one exists}.
    """

    low: int | float | None = Field(None, description="lower end of the range")
    high: int | float | None = Field(None, description="upper end, which belongs to it")
    log: bool = Field(False, description="values are even in their logarithm")
    step: int | float | None = Field(None, description="values are `low` and so many steps more")
    choices: tuple[Scalar, ...] | None = Field(None, description="values, in place of a range")
    when: dict[str, tuple[Scalar, ...]] = Field(
        {}, description="other hyperparameters, listed before it, and their values for which it exists; none: always"
    )
    recommended: Scalar = Field(description="the source document's value: that of trial 0, the reference")
    impact: Impact | None = Field(None, description="the document's label, shown beside what the search finds")
    source: str = Field(description="where range and recommended value come from")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.log or self.step is not None:
                raise ValueError("`choices` excludes `low`, `high`, `log` and `step`")
            if not self.choices:
                raise ValueError("`choices` must not be empty")
            self.check(self.recommended, "recommended")
            return self
        if self.low is None or self.high is None:
            raise ValueError("either `low` and `high` or `choices` must be given")
        if self.low > self.high:
            raise ValueError(f"`low <= high` must hold, but got (low={self.low}, high={self.high})")
        if self.log and self.low <= 0:
            raise ValueError(f"`low > 0` must hold with `log: true`, but got (low={self.low})")
        if self.step is not None and (self.log or self.step <= 0):
            raise ValueError(f"`step` must be positive and excludes `log`, but got (step={self.step}, log={self.log})")
        self.check(self.recommended, "recommended")
        return self

    def check(self, value: Scalar, name: str) -> None:
        """Whether the search could suggest a value.

        Raises:
            ValueError: `name` and the value, and what is valid.
        """
        if self.choices is not None:
            if not any(
                value == choice and isinstance(value, bool) == isinstance(choice, bool) for choice in self.choices
            ):
                raise ValueError(f"`{name}` must be one of {list(self.choices)}, but got {value!r}")
            return
        assert self.low is not None
        assert self.high is not None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"`{name}` must be a number, but got {value!r}")
        if not self.low <= value <= self.high:
            raise ValueError(
                f"`low <= {name} <= high` must hold, but got (low={self.low}, {name}={value}, high={self.high})"
            )
        if self.step is not None and not math.isclose(
            value, self.low + self.step * round((value - self.low) / self.step)
        ):
            raise ValueError(f"`{name}` must be a multiple of {self.step} above {self.low}, but got {value}")

    def values(self, points: int, whole: bool) -> list[Scalar]:
        """Every choice, or at most `points` values of the range, ends included, evenly spaced (on a log range: by ratio)."""
        if self.choices is not None:
            return list(self.choices)
        found: list[Scalar] = []
        for index in range(points):
            value = self.at(index / (points - 1), whole)
            if value not in found:
                found.append(value)
        return found

    def at(self, share: float, whole: bool) -> Scalar:
        """The value that lies at a share in [0, 1] of the range (on a log range: of its logarithm), or the choice.

        Args:
            whole: the range holds whole numbers.
        """
        if self.choices is not None:
            return self.choices[min(int(share * len(self.choices)), len(self.choices) - 1)]
        assert self.low is not None
        assert self.high is not None
        value = self.low * (self.high / self.low) ** share if self.log else self.low + share * (self.high - self.low)
        step = self.step or (1 if whole else None)
        if step is not None:
            last = math.floor((self.high - self.low) / step * (1 + 1e-9))  # what 0.3 / 0.1 misses
            value = self.low + step * min(math.floor((value - self.low) / step + 0.5), last)
        value = min(max(value, self.low), self.high)
        return round(value) if whole else float(value)


class Objective(Frozen):
    """What the search optimises: a metric on held-out data that contains no swept weight."""

    metric: str = Field(description="name of a metric of the model that has a value for each held-out item")
    mode: Mode = Field(description="which of its values is better")


class Constraint(Frozen):
    """What a trial must keep to: the winner does, and samplers are told by how much a trial does not."""

    metric: str = Field(description="name of a metric of the model, `val/...`")
    low: float | None = Field(None, description="the least that it may be at the last report")
    high: float | None = Field(None, description="or the most")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.low is None) == (self.high is None):
            raise ValueError("one of `low` and `high` must be given")
        return self

    def violation(self, value: float) -> float:
        """How far a value is outside, 0 or less if it is not."""
        if self.low is not None:
            return self.low - value
        assert self.high is not None
        return value - self.high


class Budget(Frozen):
    """How much a search may spend. The unit is the optimizer step; what is reached first ends the search."""

    trials: PositiveInt = Field(description="how many are trained, stopped ones included")
    steps: PositiveInt = Field(description="steps of a full trial")
    grace_steps: PositiveInt = Field(description="the first rung: no trial is stopped earlier")
    reduction_factor: int = Field(4, ge=2, description="one in `reduction_factor` trials passes a rung")
    evaluate_every: PositiveInt = Field(description="steps between two reports")
    max_hours: PositiveFloat | None = Field(None, description="wall-clock time for trials, each time the search is run")
    target: float | None = Field(None, description="objective of a finished trial that is good enough")
    least_gain: float | None = Field(
        None, gt=0, lt=1, description="relative improvement below which going on is not worth it (Optuna's terminator)"
    )
    finalists: int = Field(3, ge=0, description="best trials that are trained again; 0: the best trial wins as it is")
    finalist_seeds: PositiveInt = Field(3, description="trainings of each finalist, with fresh seeds")
    reference_seeds: PositiveInt = Field(
        2,
        description="trainings of a reference that may not win, the search's own among them; 2 tell what a seed changes",
    )
    set: dict[str, Any] = Field({}, description="other values of the space for this preset, by key.path")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.grace_steps > self.steps:
            raise ValueError(
                f"`grace_steps <= steps` must hold, but got (grace_steps={self.grace_steps}, steps={self.steps})"
            )
        return self

    def rungs(self) -> list[int]:
        """Steps at which a trial may be stopped, rising, below `steps`: grace, grace*rf, grace*rf^2, ..."""
        rungs, step = [], self.grace_steps
        while step < self.steps:
            rungs.append(step)
            step *= self.reduction_factor
        return rungs

    def report_steps(self) -> list[int]:
        """Steps at which a trial is evaluated and reports: every rung, every `evaluate_every`, and the last."""
        regular = range(self.evaluate_every, self.steps, self.evaluate_every)
        return sorted({*regular, *self.rungs(), self.steps})


class Resources(Frozen):
    """The shape of the search. A lane is one warm group of training workers; lanes train trials side by side, each as many as its pack."""

    lanes: PositiveInt | None = Field(None, description="how many; default: as many as there is room for")
    pack: Literal["auto"] | Annotated[int, Field(ge=1, le=LARGEST_PACK)] = Field(
        "auto", description="trials that a lane trains at once; auto: 8 on a GPU, 1 on a CPU (docs/search.md)"
    )
    workers_per_trial: PositiveInt = Field(1, description="training processes of a lane, which share each batch")
    cpus_per_worker: PositiveInt | None = Field(
        None, description="also its threads; default: 1, and with `lanes` on one machine an even part of its CPUs"
    )
    gpus_per_worker: float = Field(0.0, ge=0, description="a fraction lets several lanes share a GPU")
    compile: bool = Field(
        False, description="torch.compile: steps an eighth shorter, after 40 s per trial and shape; for long trainings"
    )
    cuda_graphs: bool = Field(
        True, description="on a GPU, a training's steps are one CUDA graph where they can be (docs/gpu.md)"
    )
    render_actors: int | None = Field(
        None, ge=0, description="Ray actors that make the data, where the system uses any; 0: the driver makes it"
    )

    @field_validator("pack", mode="before")
    @classmethod
    def _pack(cls, value: Any) -> Any:
        if value != "auto" and (
            not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST_PACK
        ):
            raise ValueError(f"must be auto or a whole number from 1 to {LARGEST_PACK}, but got {value!r}")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.pack not in ("auto", 1) and self.workers_per_trial > 1:
            raise ValueError(
                "a lane of several workers trains one trial at a time: `pack = 1` or `workers_per_trial = 1` must hold, but got "
                f"(pack={self.pack}, workers_per_trial={self.workers_per_trial})"
            )
        if self.pack not in ("auto", 1) and self.compile:
            raise ValueError(
                "compiled networks cannot be batched with others: `pack = 1` or `compile = false` must hold, but got "
                f"(pack={self.pack}, compile={self.compile})"
            )
        return self


class Study(Frozen):
    """A space file, complete: `search` and `fixed` set the trial's hyperparameters, the rest says how to score them.

    The search begins at the recommended values, trial 0, and at `points_to_evaluate`: values that are known to be good.
    What such a point does not name is as recommended.
    """

    space: str = Field(description="its name")
    description: str = Field(description="what it searches, in a line")
    model: str = Field(description="a system: a shipped name, or a module that has one (docs/add-a-model.md)")
    search: dict[str, Parameter] = Field(description="the hyperparameters that are searched")
    fixed: dict[str, Any] = Field({}, description="values of others; what is named nowhere has the model's default")
    points_to_evaluate: tuple[dict[str, Scalar], ...] = Field(
        (),
        description="values of trials that come after the recommended ones; what one does not name is as recommended",
    )
    data: SerializeAsAny[DataSection] = Field(description="what is trained on, and what judges")
    objective: Objective = Field(description="what trials are ranked by")
    further_objectives: tuple[Objective, ...] = Field((), description="with these, a search for the Pareto front")
    constraints: tuple[Constraint, ...] = Field((), description="what a winner has to keep to")
    sampler: Literal["auto", "tpe", "random", "sobol", "gp", "cmaes", "nsga2", "grid"] = Field(
        "auto", description="auto: Gaussian processes for a hundred trials, then TPE"
    )
    grid_points: int = Field(3, ge=2, description="values of each range that the sampler `grid` combines")
    scheduler: Literal["asha", "median", "none"] = Field("asha", description="early stopping")
    budget: dict[Literal["quick", "standard", "full"], Budget] = Field(description="its presets")
    resources: Resources = Field(Resources(), description="lanes, workers, CPUs and GPUs")
    seed: int = Field(0, ge=0, le=LARGEST_SEED, description="of everything random, held-out data too")

    @field_validator("model")
    @classmethod
    def _model(cls, name: str) -> str:
        try:
            system(name)
        except LookupError as error:
            raise ValueError(str(error)) from None
        return name

    @field_validator("data", mode="before")
    @classmethod
    def _data(cls, value: Any, info: ValidationInfo) -> Any:
        """The system says what a data section has. A model that is not valid is told as such."""
        section = system(info.data["model"]).data if "model" in info.data else None
        return value if section is None or isinstance(value, section) else section.model_validate(value)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.further_objectives:
            if self.scheduler != "none":
                raise ValueError(
                    "several objectives need `scheduler: none`, as a stopped trial has no place on the Pareto front, "
                    f"but got (scheduler={self.scheduler})"
                )
            if self.sampler == "cmaes":
                raise ValueError(
                    "the sampler cmaes takes one objective; with several: tpe, random, sobol, gp, nsga2 or grid"
                )
            limits = {"target": [b.target for b in self.budget.values()]}
            limits["least_gain"] = [b.least_gain for b in self.budget.values()]
            if given := [name for name, values in limits.items() if any(value is not None for value in values)]:
                raise ValueError(f"`{given[0]}` goes with one objective")
        names = [objective.metric for objective in self.objectives]
        if len(set(names)) != len(names):
            raise ValueError(f"objectives must differ, but got {names}")
        if self.sampler == "grid" and (given := [name for name, one in self.search.items() if one.when]):
            raise ValueError(f"the sampler grid knows no conditions, but `search.{given[0]}` has `when`")
        return self

    @property
    def system(self) -> System:
        """What is trained."""
        return system(self.model)

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """All of them, the first one first: trials are ranked by it."""
        return (self.objective, *self.further_objectives)

    @property
    def watched(self) -> tuple[str, ...]:
        """The metrics that a trial is judged by: one that is not finite ends it."""
        return (*(one.metric for one in self.objectives), *(one.metric for one in self.constraints))

    def grid(self) -> dict[str, list[Scalar]]:
        """The values that the sampler `grid` combines: every choice, and `grid_points` of each range, ends included."""
        return {
            name: parameter.values(self.grid_points, self.is_integer(name)) for name, parameter in self.search.items()
        }

    def grid_size(self) -> int:
        """How many points the sampler `grid` has."""
        return math.prod(map(len, self.grid().values()))

    def presets(self) -> dict[str, Budget]:
        """The budgets by name."""
        return {str(name): budget for name, budget in self.budget.items()}

    def trial(self, values: dict[str, Any]) -> Trial:
        """The typed hyperparameters of one trial: `values` over `fixed` over the model's defaults."""
        return self.system.trial.model_validate({**self.fixed, **values})

    def recommended(self) -> dict[str, Scalar]:
        """The reference value of every searched parameter whose condition holds: the first trial."""
        return self._point({})

    def first_trials(self) -> list[dict[str, Scalar]]:
        """The parameters of the trials that are given and not suggested: the recommended values, then the points."""
        return [self.recommended(), *map(self._point, self.points_to_evaluate)]

    def _point(self, named: dict[str, Scalar]) -> dict[str, Scalar]:
        values: dict[str, Scalar] = {}
        for name, parameter in self.search.items():
            if self.exists(parameter, values):
                values[name] = named.get(name, parameter.recommended)
        return values

    def exists(self, parameter: Parameter, values: dict[str, Any]) -> bool:
        """Whether a conditional parameter is part of a trial that has `values` so far."""
        if not parameter.when:
            return True  # at once: every suggestion asks this of every parameter
        known = {**self.system.trial().model_dump(), **self.fixed, **values}
        return all(known[name] in allowed for name, allowed in parameter.when.items())

    def is_integer(self, name: str) -> bool:
        """Whether a searched range holds whole numbers."""
        return self.system.trial.model_fields[name].annotation is int

    def edge(self, name: str, value: Scalar, share: float = 0.05) -> Literal["lower", "upper"] | None:
        """The end of its range that a value lies within `share` of the range from (on a log range: of its logarithm)."""
        parameter = self.search[name]
        if parameter.low is None or parameter.high is None or isinstance(value, str) or parameter.low == parameter.high:
            return None
        scale = math.log if parameter.log else float
        low, high, at = scale(parameter.low), scale(parameter.high), scale(value)
        if min(at - low, high - at) > share * (high - low):
            return None
        return "upper" if high - at < at - low else "lower"
