"""Several runs side by side: only what differs, and the ends of those that have one."""

import json
from pathlib import Path

import pytest

from results.analysis import analyze
from results.csv_file import write_rows
from results.several import ABSENT, analyze_several, differences, labels
from results.several_tables import several_as_dict, several_tables
from spaces.errors import SpaceError
from tests.results.conftest import RunMaker, summary_of
from tests.results.test_tables import drawn


def test_differences_are_the_keys_whose_values_are_not_all_the_same():
    a = {"seed": 0, "search": {"x": {"low": 1, "high": 2}, "y": {"low": 1}}, "same": [1, 2]}
    b = {"seed": 1, "search": {"x": {"low": 1, "high": 3}}, "same": [1, 2], "more": {"z": 4}}
    assert differences([a, b]) == {
        "seed": [0, 1],
        "search.x.high": [2, 3],
        "search.y": [{"low": 1}, ABSENT],
        "more": [ABSENT, {"z": 4}],
    }
    assert differences([a, a]) == {}


def test_labels_are_the_shortest_ends_that_tell_paths_apart():
    assert labels([Path("/a/runs/one"), Path("/a/runs/two")]) == ["one", "two"]
    assert labels([Path("/a/runs/x"), Path("/b/runs/x"), Path("/y")]) == ["a/runs/x", "b/runs/x", "y"]


def test_a_run_is_given_once(make_run: RunMaker):
    run = make_run(1)
    with pytest.raises(SpaceError, match="given twice"):
        analyze_several([run, run])


@pytest.mark.parametrize("width", [60, 80, 160])
def test_runs_beside_each_other_fit_the_terminal(make_run: RunMaker, width):
    changed = ["seed=3", "search.kl_weight.high=1e-2", "budget.quick.steps=2000"]
    runs = [make_run(8, name="first"), make_run(5, name="second", overrides=changed), make_run(0, name="empty")]
    runs[0].write_summary(summary_of("first"))
    several = analyze_several(runs)
    assert several.differences == {
        "search.kl_weight.high": [1e-3, 1e-2, 1e-3],
        "budget.steps": [1800, 2000, 1800],
        "seed": [0, 3, 0],
    }
    text = drawn(several_tables(several), width)
    for words in ("search.kl_weight.high", "first", "second", "empty", "[0.018"):
        assert words in text
    assert "data.grid" not in text
    assert ("not finished" in text) == (width >= 80)


def test_the_ends_of_two_runs(make_run: RunMaker):
    runs = [make_run(3, name=name) for name in ("first", "second")]
    for run in runs:
        run.write_summary(summary_of(run.name))
    text = drawn(several_tables(analyze_several(runs)))
    for row in ("winner", "reference", "cubic RBF"):
        cells = next(line for line in text.splitlines() if line.startswith(row)).split("[")
        assert len(cells) == 3  # an interval of each run
    assert "different test sets" not in text
    record = runs[1].read_record()
    runs[1].rewrite_record(record.model_copy(update={"data": record.data | {"test": "elsewhere/other"}}))
    several = analyze_several(runs)
    assert not several.same_test_set
    assert "different test sets" in " ".join(drawn(several_tables(several)).split())


def test_machines_get_each_run_and_the_differences(make_run: RunMaker):
    runs = [make_run(3, name="first"), make_run(3, name="second", overrides=["seed=3"])]
    found = json.loads(json.dumps(several_as_dict(analyze_several(runs)), allow_nan=False))
    assert found["differences"] == {"seed": {"first": 0, "second": 3}}
    assert [len(found["runs"][name]["trials"]) for name in ("first", "second")] == [3, 3]


def test_csv_has_a_row_per_trial_and_all_columns(make_run: RunMaker, tmp_path):
    analysis = analyze(make_run(4, fail=[2]))
    rows = [trial.row(analysis.mode) for trial in analysis.trials]
    write_rows(tmp_path / "trials.csv", [*rows, {"number": 9, "more": 1.5}])
    lines = (tmp_path / "trials.csv").read_text().splitlines()
    heading = lines[0].split(",")
    assert len(lines) == 6
    assert heading[-1] == "more"
    assert lines[-1].split(",")[0] == "9"
    assert {"value", "params_learning_rate", "val/kl", "failure"} <= set(heading)
    best = analysis.trials[0].best(analysis.mode)
    assert best is not None
    assert float(lines[1].split(",")[heading.index("value")]) == best[1]
