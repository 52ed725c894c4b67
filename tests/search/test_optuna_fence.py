"""What search/optuna_fence.py relies on. Where one of these fails, that file has to change, or can go."""

import inspect

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.storages import RDBStorage
from optuna.trial import create_trial

from search.optuna_fence import FreeChoices


def add_two(storage):
    """Trials with different choices of one parameter."""
    study = optuna.create_study(storage=storage)
    for choices in ("ab", "bc"):
        study.add_trial(
            create_trial(value=0.0, params={"x": "b"}, distributions={"x": CategoricalDistribution(choices)})
        )
    drawn = [trial.distributions["x"] for trial in study.trials]
    return [one.choices for one in drawn if isinstance(one, CategoricalDistribution)]


def test_optuna_s_storage_refuses_other_choices():
    """Once it takes them, the fence can go."""
    with pytest.raises(ValueError, match="dynamic value space"):
        add_two(RDBStorage("sqlite://"))


def test_the_fenced_storage_takes_them():
    assert add_two(FreeChoices("sqlite://")) == [("a", "b"), ("b", "c")]


def test_what_the_fence_overrides_is_as_it_was():
    name = "_set_trial_param_without_commit"
    assert hasattr(RDBStorage, name), f"this Optuna has no RDBStorage.{name}: where does it compare distributions now?"
    expected, found = (inspect.signature(vars(one)[name]).parameters for one in (FreeChoices, RDBStorage))
    assert list(found) == list(expected), f"this Optuna's RDBStorage.{name} takes other arguments: {list(found)}"
