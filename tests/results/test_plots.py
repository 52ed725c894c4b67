"""Figures of a search: their numbers are those of the run, in the picture and in the file alike."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from results.analysis import analyze
from results.plots import comparison_figure, history, history_figure, search_figures
from results.records import read_trials
from tests.drawings import marks, numbers, spanning, written
from tests.results.conftest import RunMaker, final_of


@pytest.mark.parametrize("trials", [1, 12])
def test_the_history_has_every_report_and_the_baselines(make_run: RunMaker, tmp_path, trials):
    records = read_trials(make_run(trials))
    curves = history(records)
    assert [curve.number for curve in curves] == list(range(trials))
    assert all((np.diff(curve.steps) > 0).all() for curve in curves)

    def draw():
        return history_figure(records, metric="val/prior_rel_l2", mode="min", rungs=[200, 600], baselines={"RBF": 0.01})

    figure, table = written(draw, tmp_path / "out")
    (axis,) = figure.axes
    reports = table[table["series"] == "trial"]
    assert marks(axis, "x") == numbers(reports["step"]) == numbers(np.concatenate([curve.steps for curve in curves]))
    assert marks(axis, "y") == numbers(reports["value"])
    assert spanning(axis, "y") == numbers([0.01]) == numbers(table.loc[table["series"] == "RBF", "value"])
    assert spanning(axis, "x") == numbers([200, 600])


def figures_of(run):
    found = analyze(run)
    return search_figures(found.trials, found.study, found.record.budget(), found.summary), found


def test_a_search_that_goes_on_has_figures_as_far_as_there_are_trials(make_run: RunMaker):
    for trials, names in (
        (0, set()),
        (3, {"history", "progress"}),
        (20, {"history", "progress", "sensitivity", "responses"}),
    ):
        assert set(figures_of(make_run(trials, name=f"of-{trials}"))[0]) == names


def test_progress_is_each_trials_best_and_the_best_of_those_that_ended(make_run: RunMaker, tmp_path):
    run = make_run(12, fail=[3])
    figures, found = figures_of(run)
    figure, table = written(figures["progress"], tmp_path / "out")
    assert marks(figure.axes[0], "y") == numbers(table["value"])
    assert marks(figure.axes[0], "x") == numbers(table["trial"])
    best = {trial.number: trial.best("min")[1] for trial in found.trials}
    each = table[table["series"] == "trial"]
    assert dict(zip(each["trial"], each["value"], strict=True)) == pytest.approx(best, rel=1e-5)
    line = table[table["series"] == "best so far"]
    complete = [trial.number for trial in found.trials if trial.state == "COMPLETE"]
    assert line["trial"].tolist() == complete
    assert line["value"].tolist() == pytest.approx(
        np.minimum.accumulate([best[number] for number in complete]), rel=1e-5
    )


def test_effects_and_responses_are_those_of_the_sensitivity(make_run: RunMaker, tmp_path):
    figures, found = figures_of(make_run(20))
    effects = found.sensitivity.effects
    figure, table = written(figures["sensitivity"], tmp_path / "effects")
    left, right = figure.axes
    assert table["hyperparameter"].tolist() == [one.name for one in effects]
    assert marks(left, "x") == numbers(table[["effect", "low", "high"]].to_numpy())
    assert numbers(bar.get_width() for bar in right.patches if isinstance(bar, Rectangle)) == numbers(table["share"])
    assert table["effect"].tolist() == pytest.approx([one.effect.mean for one in effects], rel=1e-5)
    figure, table = written(figures["responses"], tmp_path / "responses")
    for axis, one in zip(figure.axes, effects, strict=False):
        rows = table[table["hyperparameter"] == one.name]
        assert marks(axis, "y") == numbers(rows[["objective", "low", "high", "at_best"]].to_numpy())
        if found.study.search[one.name].choices is None:
            assert marks(axis, "x") == numbers(rows["value"].astype(float))
        assert rows["objective"].tolist() == pytest.approx([response.mean for response in one.response], rel=1e-5)


def test_the_comparison_has_every_method_and_training_with_intervals(make_run: RunMaker, tmp_path):
    final, system = final_of(), analyze(make_run(1)).study.system
    figure, table = written(lambda: comparison_figure(final, system), tmp_path / "out")
    assert marks(figure.axes[0], "x") == numbers(table[["value", "low", "high"]].to_numpy())
    of = {kind: table[table["kind"] == kind] for kind in ("finalist", "baseline", "training")}
    assert of["finalist"]["value"].tolist() == pytest.approx([one.score.mean for one in final.finalists])
    assert of["baseline"]["high"].tolist() == pytest.approx([one.score.high for one in final.baselines.values()])
    assert len(of["training"]) == sum(len(one.trainings) for one in final.finalists)
