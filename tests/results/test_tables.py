"""What `tune analyze` prints, drawn from runs on disk: it fits 80 columns and says each thing once."""

from __future__ import annotations

import json

import optuna
import pytest
from rich.console import Console, RenderableType

from results import tables
from results.analysis import analyze
from results.comparison import Interval
from results.formatting import decimals, duration, interval, megabytes, microseconds, number
from results.run_directory import RunDirectory, write_json
from tests.results.conftest import RunMaker, around, record_of, summary_of

TWO_OBJECTIVES = ("scheduler=none", "further_objectives=[{metric: val/kl, mode: min}]")
CONSTRAINT = "constraints=[{metric: val/kl, high: 0.3}]"


def drawn(renderable: RenderableType, width: int = 80) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(renderable)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    return text


def shown(run: RunDirectory) -> str:
    """Printed text with single spaces, so that where lines break does not matter."""
    return " ".join(drawn(tables.analysis(run)).split())


@pytest.mark.parametrize("trials", [0, 3, 24])
@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(
    "overrides", [(), ("scheduler=median", CONSTRAINT), (*TWO_OBJECTIVES, CONSTRAINT)], ids=["asha", "median", "front"]
)
def test_tables_fit_the_terminal_and_machines_get_json(make_run: RunMaker, trials, width, overrides):
    run = make_run(trials, fail=[2], overrides=overrides)
    if trials == 24:
        run.write_summary(summary_of(run.name))
    text = drawn(tables.analysis(run), width)
    several = len(overrides) == 3
    assert ("no trial has reported yet" in text) == (trials == 0 and not several)
    assert ("too few trials" in text) == (trials < 8)
    assert ("cubic RBF" in text) == (trials == 24)
    machine = json.loads(json.dumps(tables.analysis_as_dict(analyze(run)), allow_nan=False))
    assert len(machine["trials"]) == trials
    assert machine["finished"] == (trials == 24)
    assert sum(cost["trials"] for cost in machine["states"].values()) == trials
    assert (machine["front"] is not None) == several


def test_the_heading_says_what_was_searched_and_what_ended_it(make_run: RunMaker):
    run = make_run(3, overrides=[*TWO_OBJECTIVES, CONSTRAINT, "sampler=nsga2"])
    text = shown(run)
    assert "sampler nsga2, scheduler none" in text
    assert "objective: val/prior_rel_l2 (min)" in text
    assert "and: val/kl (min)" in text
    assert "constraints: val/kl <= 0.3" in text
    assert "not finished: these are the results so far" in text
    assert "changed at resume" not in text
    changes = ("budget.quick.trials=40", "search.learning_rate.high=1e-2")
    write_json(run.record, run.read_record().model_copy(update={"changes": changes}))
    run.write_summary(summary_of(run.name))
    text = shown(run)
    assert "finished (trials: all 18 have ended)" in text
    assert "changed at resume: budget.quick.trials=40, search.learning_rate.high=1e-2" in text
    machine = tables.analysis_as_dict(analyze(run))
    assert machine["changes"] == list(changes)
    assert (machine["sampler"], machine["ended"]) == ("nsga2", "trials: all 18 have ended")


def test_states_go_with_reasons_and_with_how_busy_the_lanes_were(make_run: RunMaker):
    run = make_run(24, fail=[3, 5, 7, 8, 9, 10])
    study = optuna.load_study(study_name=run.name, storage=run.storage_url)
    study.enqueue_trial({"learning_rate": 1e-4})  # waits for its first start
    study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING))
    study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING))
    interrupted = study.trials[-1]
    study._storage.set_trial_state_values(interrupted._trial_id, optuna.trial.TrialState.WAITING)
    text = shown(run)
    for state, count in (("RUNNING", 1), ("WAITING", 2), ("FAIL", 6)):
        assert f"{state} {count} " in text
    assert f"WAITING: #{interrupted.number} interrupted, going on when the run is resumed." in text
    assert "FAIL: 6 x the loss became nan (#3, #5, #7, #8, #9 and 1 more)." in text
    assert "The 2 lanes trained for 86% of the 1 min 33 s in which trials ran." in text
    machine = tables.analysis_as_dict(analyze(run))
    assert machine["failures"] == [{"reason": "the loss became nan", "trials": (3, 5, 7, 8, 9, 10)}]
    assert machine["efficiency"]["share"] == pytest.approx(80 / 93)


def test_rungs_and_why_trials_were_stopped(make_run: RunMaker):
    run = make_run(24)
    text = drawn(tables.analysis(run))
    assert "Survival (asha, one in 3 goes on)" in text
    machine = tables.analysis_as_dict(analyze(run))
    first = machine["survival"][0]
    assert f"  200    24{first['went_on']:9}{first['stopped']:8}" in text
    assert f"1,800{machine['survival'][2]['came']:6}      end       -" in text
    last = machine["stops"][-1]
    assert f"#{last['number']:<6}{last['step']:7}  {last['reason']}" in text
    assert text.count(" at rung ") == 10
    assert f"The latest 10; {len(machine['stops']) - 10} more with --json." in text
    assert len(machine["stops"]) == machine["states"]["PRUNED"]["trials"] > 10


def test_without_early_stopping_a_line_says_so(make_run: RunMaker):
    text = shown(make_run(3, overrides=["scheduler=none"]))
    assert "Early stopping: none (scheduler none), every trial has the full budget." in text
    assert "Survival" not in text
    assert "Why trials were stopped" not in text
    assert "Survival (median) step came" in shown(make_run(3, name="median", overrides=["scheduler=median"]))


def test_several_objectives_show_the_front_in_place_of_a_ranking(make_run: RunMaker):
    run = make_run(24, overrides=TWO_OBJECTIVES)
    text = drawn(tables.analysis(run))
    front = analyze(run).front
    assert len(front) > 12
    assert f"{len(front) - 12} more with --json." in text
    assert "Best trials" not in text
    rows = text[text.index("Pareto front") : text.index("more with --json")].splitlines()
    assert rows[1].split() == ["trial", "rel.", "L2", "kl", "lane", "time"]
    for row, trial in ((rows[2], front[0]), (rows[13], front[-1])):
        assert trial.values is not None
        assert row.split()[:3] == [f"#{trial.number}", *map(number, trial.values)]
    parameters = text[text.index("Parameters along the front") :].splitlines()[1].split()
    assert parameters[0] == "reference"
    assert (parameters[1], parameters[-1]) == (f"#{front[0].number}", f"#{front[-1].number}")
    assert "no trial is COMPLETE and within the constraints yet" in shown(
        make_run(1, name="none", overrides=[*TWO_OBJECTIVES, "constraints=[{metric: val/kl, high: 0.01}]"])
    )


def test_trials_outside_the_constraints_are_marked(make_run: RunMaker):
    run = make_run(4, overrides=[CONSTRAINT])
    found = analyze(run)
    (row,) = (line for line in drawn(tables.best_table(found)).splitlines() if line.startswith("violation"))
    expected = [number(trial.violation) if trial.violation else "none" for trial in found.ranking]
    assert row.split()[1:] == expected
    assert expected[0] == "none"
    assert expected[-1] != "none"
    assert "violation" not in drawn(tables.best_table(analyze(make_run(4, name="free"))))


def test_the_gain_is_a_note_only_until_the_comparison_says_it(make_run: RunMaker):
    run = make_run(12)
    assert "times less (validation set" in shown(run)
    run.write_summary(summary_of(run.name))
    text = shown(run)
    assert "times less" not in text
    assert "reference / this" in text


def test_a_state_has_one_name(make_run: RunMaker):
    text = drawn(tables.best_table(analyze(make_run(6))))
    assert "COMPLETE" in text
    assert "PRUNED" in text
    assert "complete" not in text


def test_a_record_without_changes_stays_readable(make_run: RunMaker):
    """Runs from before changes were recorded have no such key."""
    run = make_run(1)
    old = record_of(run.name).model_dump(mode="json")
    del old["changes"]
    run.record.write_text(json.dumps(old))
    assert analyze(run).record.changes == ()


def test_numbers_and_times_read_well():
    assert [number(value) for value in (1e-4, 1e-3, 0.014823, 28.0, 128, 1e5, 3.456e-5, "cosine", True)] == [
        "1e-4", "0.001", "0.01482", "28", "128", "1e5", "3.46e-5", "cosine", "True",
    ]  # fmt: skip
    assert [duration(seconds) for seconds in (4.21, 187, 7500)] == ["4.2 s", "3 min 07 s", "2 h 05 min"]
    assert [megabytes(size) for size in (86_000, 1_234_000, 20_130_000, 123_400_000)] == ["0.09", "1.23", "20.1", "123"]
    assert [microseconds(time) for time in (3.21e-6, 4.512e-5, 0.12345)] == ["3.21", "45.1", "123450"]


def test_intervals_have_two_digits_of_their_half_width():
    assert interval(around(0.0101, 0.00123), decimals([around(0.0101, 0.00123)])) == "0.0101 [0.0089, 0.0113]"
    assert interval(around(0.002, 0.00021), 5, "+") == "+0.00200 [+0.00179, +0.00221]"
    assert decimals([around(38.2, 0.15), around(37.0, 0.2)]) == 2
    assert decimals([around(38.2, 1e-7)]) == 4  # six digits in all
    assert decimals([Interval(mean=0.1, low=0.1, high=0.1)]) == 4
    assert decimals([]) == 4
