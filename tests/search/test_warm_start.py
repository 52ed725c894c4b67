"""What a new run takes over from another one's trials."""

import pytest
from optuna.trial import TrialState

from results.distributions import distributions
from results.records import read_trials
from results.run_directory import RunDirectory, RunError
from search import warm_start
from search.sampler import MODELS, given, share
from search.searcher import open_ledger
from search.warm_start import EarlierTrial, WarmStart
from spaces.errors import SpaceError
from tests.search.small import NAMES, PRESET, edited, open_at, run_of, small

PSNR = {"metric": "val/prior_psnr", "mode": "max"}


@pytest.fixture(scope="module")
def space():
    return small(sampler="random")


@pytest.fixture(scope="module")
def source(tmp_path_factory, space):
    """A run of twelve trials, stopped at their first report."""
    return run_of(tmp_path_factory.mktemp("runs") / "source", space, 12)


def tpe(*names, **changes):
    return small(*names, **{"sampler": "tpe"} | changes)


def refusal(source, study):
    with pytest.raises(SpaceError) as caught:
        warm_start.warm_start(source, study)
    assert not isinstance(caught.value, RunError)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def of(trials, **params):
    """A warm start with these learning rates, best first."""
    return WarmStart(
        source="/runs/source",
        trials=tuple(EarlierTrial(params={"learning_rate": rate} | params, rank=n) for n, rate in enumerate(trials)),
    )


def test_every_ended_trial_is_taken_over_with_its_rank(source, space):
    found = warm_start.warm_start(source, tpe())
    assert found.source == str(source.path.resolve())
    theirs = read_trials(source)
    assert [trial.params for trial in found.trials] == [trial.params for trial in theirs]
    assert [trial.rank for trial in found.trials] == [
        sorted(one.history[0][1] for one in theirs).index(trial.history[0][1]) for trial in theirs
    ]

    earlier = found.experience(tpe())
    assert [trial.value for trial in earlier] == [share(trial.rank, of=12) for trial in found.trials]
    assert [trial.number for trial in earlier] == list(range(-12, 0))  # older than this run's, in their order
    assert [trial.params for trial in earlier] == [trial.params for trial in theirs]
    assert all(trial.state is TrialState.COMPLETE for trial in earlier)
    assert all(trial.distributions == distributions(space) for trial in earlier)


def test_failed_waiting_and_running_trials_tell_nothing(tmp_path, space):
    run = run_of(tmp_path / "source", space, 2)
    ledger = open_ledger(run.storage_url, run.name, space, space.budget[PRESET])
    for failed in (True, False):
        number, _ = ledger.ask()
        ledger.report(number, 200, 1e-9)
        if failed:
            ledger.tell(number, TrialState.FAIL, None)
    ledger.enqueue(given(space, space.recommended()))
    ledger.close()
    assert len(read_trials(run)) == 5
    assert [trial.rank for trial in warm_start.warm_start(run, tpe()).trials] in ([0, 1], [1, 0])


def test_only_what_both_runs_search_is_taken_over(source):
    here = tpe("learning_rate", "batch_size")
    earlier = warm_start.warm_start(source, here).experience(here)
    assert len(earlier) == 12
    assert all(trial.params.keys() == {"learning_rate"} for trial in earlier)
    assert all(trial.distributions["learning_rate"] == distributions(here)["learning_rate"] for trial in earlier)


def test_trials_outside_this_run_s_ranges_are_left_out():
    here = edited(tpe(), learning_rate={"high": 1e-4}, lr_schedule={"choices": ["constant", "cosine"]})
    rates = [1e-5, 2e-4, 1e-4, 9e-6, 5e-5]
    earlier = of(rates).experience(here)
    assert [trial.params["learning_rate"] for trial in earlier] == [1e-5, 1e-4, 5e-5]
    assert [trial.value for trial in earlier] == [share(rank, of=5) for rank in (0, 2, 4)]  # those of their own run
    assert [trial.number for trial in earlier] == [-3, -2, -1]
    assert len(of(rates, lr_schedule="cosine").experience(here)) == 3
    assert of(rates, lr_schedule="one_cycle").experience(here) == []
    assert of(rates, num_layers=6).experience(here) == []


def test_another_objective_is_refused_with_both_named(source):
    assert refusal(source, tpe(objective=PSNR)) == (
        "--warm-start source: it optimised val/prior_rel_l2 (min), this run val/prior_psnr (max)"
    )


@pytest.mark.parametrize(
    "here",
    [
        tpe("batch_size"),
        edited(tpe(), learning_rate={"low": 2e-3, "high": 1e-2, "recommended": 3e-3}),
    ],
    ids=["another parameter", "another range"],
)
def test_a_run_with_nothing_in_range_is_refused(source, here):
    assert refusal(source, here) == ("--warm-start source: none of its 12 finished trials lies in this run's ranges")


def test_a_run_without_a_finished_trial_is_refused(tmp_path, space):
    assert "none of its 0 finished trials" in refusal(run_of(tmp_path / "new", space), tpe())


@pytest.mark.parametrize("sampler", ["random", "cmaes", "nsga2", "grid"])
def test_a_sampler_that_would_learn_nothing_is_refused(source, sampler):
    assert refusal(source, small("learning_rate", sampler=sampler)) == (
        f"--warm-start source: goes with one objective and auto, tpe, gp, but got (sampler={sampler}, objectives=1)"
    )


def test_several_objectives_are_refused(source):
    assert "(sampler=tpe, objectives=2)" in refusal(source, tpe(scheduler="none", further_objectives=[PSNR]))


def test_a_run_whose_study_is_missing_is_an_error_of_its_own(tmp_path, space):
    run = run_of(tmp_path / "source", space)
    run.study_db.unlink()
    with pytest.raises(RunError, match=r"study\.db: missing"):
        warm_start.warm_start(run, tpe())


def test_this_run_s_constraints_are_judged_by_their_metrics(source):
    here = tpe(constraints=[{"metric": "val/kl", "high": 5.5}])
    earlier = warm_start.warm_start(source, here).experience(here)
    assert [trial.constraints for trial in earlier] == [{"val/kl": number - 4.5} for number in range(12)]
    unknown = tpe(constraints=[{"metric": "val/active_units", "low": 4}])  # which that run has not noted
    assert "none of its 0 finished trials" in refusal(source, unknown)


@pytest.mark.parametrize("sampler", MODELS)
@pytest.mark.parametrize("constraints", [[], [{"metric": "val/kl", "high": 5.5}]], ids=["", "constrained"])
def test_samplers_take_what_it_gives(tmp_path, source, sampler, constraints):
    here = small("learning_rate", "batch_size", sampler=sampler, constraints=constraints)
    ledger = open_at(tmp_path / "study.db", here, warm_start.warm_start(source, here).experience(here))
    told = {"val/kl": 1.0} if constraints else None
    for _ in range(4):
        number, params = ledger.ask()
        ledger.report(number, 200, 1.0 + number)
        ledger.tell(number, TrialState.PRUNED, None, told)
        assert params.keys() == {"learning_rate", "batch_size"}


def test_it_is_kept_with_the_run_and_stands_alone(tmp_path, source):
    here = tpe(constraints=[{"metric": "val/kl", "high": 5.5}])
    found = warm_start.warm_start(source, here)
    run = RunDirectory(tmp_path)
    assert warm_start.read(run) is None
    warm_start.write(run, found)
    assert warm_start.read(run) == found
    read = warm_start.read(run)
    assert read is not None
    assert [trial.params for trial in read.experience(here)] == [
        {name: trial.params[name] for name in NAMES} for trial in found.trials
    ]


def test_a_damaged_file_is_named(tmp_path):
    run = RunDirectory(tmp_path)
    run.warm_start.write_text('{"source": "x"}')
    with pytest.raises(RunError, match=r"warm_start\.json: damaged"):
        warm_start.read(run)


def test_a_new_run_without_one_learns_nothing_from_what_lies_there(source, tmp_path):
    run = RunDirectory(tmp_path / "run")
    warm_start.write(run, warm_start.warm_start(source, tpe()))
    assert warm_start.read(run) is not None
    warm_start.write(run, None)
    assert warm_start.read(run) is None
