"""report.html: what it says is what `psf-search analyze` says, all of a run is escaped, and it asks nobody for anything."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from importlib.resources import files
from itertools import product

import optuna
import pytest
from rich.table import Table

from results.analysis import analyze
from results.final_tables import comparison_table, cost_table, final_table
from results.report import write_report
from results.report.charts import effects_chart, responses
from results.report.page import embedded, run_page, tiles
from results.report.scales import Choices, Linear, Log, around
from results.report.svg import apart, element
from results.run_directory import RunDirectory, write_json
from results.sensitivity import Effect, Sensitivity
from results.tables import best_table, sensitivity_table, state_counts
from spaces.errors import SpaceError
from spaces.loading import choose_preset, override
from spaces.loading import read as read_space
from tests.results.conftest import RunMaker, record_of, summary_of
from tests.results.conftest import around as interval_around
from tests.results.html_tree import Element, read, tables

PLANTED = "</script><script>alert('planted')</script>"


def page_of(run: RunDirectory) -> Element:
    return read(run_page(run, analyze(run)))


def anchors(page: Element) -> list[str | None]:
    return [one.attributes.get("id") for one in page.all("section")]


def cells(table: Table) -> list[list[str]]:
    columns = [[str(cell).split("\n")[0] for cell in column.cells] for column in table.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def finished(make_run: RunMaker, trials: int = 12, **options) -> RunDirectory:
    run = make_run(trials, fail=[3, 5], **options)
    run.write_summary(summary_of(run.name))
    return run


def test_a_finished_run_has_every_section_and_the_numbers_of_the_tables(make_run: RunMaker):
    run = finished(make_run, 24)
    found = analyze(run)
    assert found.summary is not None
    final, system = found.summary.final, found.study.system
    page = page_of(run)
    sections = ["verdict", "comparison", "course", "trials", "sensitivity", "states", "cost", "repeat"]
    assert anchors(page) == sections
    assert [one.attributes["href"] for one in page.all("nav")[0].all("a")] == [f"#{name}" for name in sections]
    shown = tables(page)
    for table in (
        comparison_table(found.summary.test, final, system),
        final_table(final, system),
        cost_table(final, system),
        best_table(found),
        sensitivity_table(found.sensitivity, found),
        state_counts(found),
    ):
        assert isinstance(table, Table)
        assert shown[str(table.title)] == cells(table)
    assert [row[:2] for row in shown["Failed trials"]] == [[f"#{number}", "200"] for number in (3, 5)]
    assert len(shown["Why trials were stopped"]) == len(found.stops) > 10


def test_the_verdict_comes_first_with_the_winner_the_reference_and_the_best_baseline(make_run: RunMaker):
    verdict = next(one for one in page_of(finished(make_run)).all("section") if one.attributes["id"] == "verdict")
    said = verdict.said()
    for text in (
        "Winner: trial 2 0.0200 95 %: 0.0188 to 0.0212",
        "Reference 0.4000 95 %: 0.3800 to 0.4200 +0.38000 [+0.36100, +0.39900] from the winner; 20.0 times the winner's",
        "Best without a model: cubic RBF 0.0150 95 %: 0.0142 to 0.0158 -0.00500 [-0.00580, -0.00420] from the winner; 0.75",
        "take the smaller, 2",
        "Of what has at most twice the winner's error, take",
    ):
        assert text in said


def test_what_was_judged_in_part_is_compared_with_the_winner_at_the_same_items():
    summary = summary_of("mine")
    baselines = dict(summary.final.baselines)
    name = min(baselines, key=lambda one: baselines[one].score.mean)
    baselines[name] = baselines[name].model_copy(update={"items": 2, "behind": interval_around(-0.01, 0.001)})
    summary = summary.model_copy(update={"final": summary.final.model_copy(update={"baselines": baselines})})
    tile = tiles(summary, record_of("mine").resolved_study().system)[-1]
    assert tile.title.endswith("at the first 2 PSFs only")
    assert tile.against.endswith("0.60 times the winner's")  # 0.015 of 0.025, and not of 0.02


def test_every_chart_has_its_numbers_behind_it(make_run: RunMaker):
    page = page_of(finished(make_run, 24))
    charts = [one for one in page.all("figure") if "chart" in (one.attributes["class"] or "")]
    assert len(charts) > 2 * len(record_of("a").resolved_study().search)
    for chart in charts:
        svg, *_ = chart.all("svg")
        (details,) = chart.all("details")
        assert svg.attributes["aria-label"] == chart.all("figcaption")[0].said()
        assert details.all("tbody")[0].all("tr")
    trials = {one.attributes.get("data-trial") for one in page.all("g")} - {None}
    assert len(trials) == 24  # failed ones have a place in their lane


def test_a_run_that_goes_on_has_a_page_too(make_run: RunMaker):
    run = make_run(12)
    study = optuna.load_study(study_name=run.name, storage=run.storage_url)
    study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING))
    page = page_of(run)
    assert "comparison" not in anchors(page)
    assert "The search has not ended: 12 of 20 trials have." in page.said()
    assert "times less (validation set" in page.said()
    assert anchors(page_of(make_run(0, name="begun"))) == ["verdict", "sensitivity", "states", "cost", "repeat"]


@pytest.mark.parametrize(
    "overrides",
    [("scheduler=median",), ("scheduler=none", "further_objectives=[{metric: val/kl, mode: min}]")],
    ids=["median", "front"],
)
def test_other_kinds_of_search_have_a_page(make_run: RunMaker, overrides):
    shown = tables(page_of(make_run(6, overrides=overrides)))
    assert ("Pareto front" in shown) == (len(overrides) == 2)


def test_what_comes_from_a_run_is_escaped(make_run: RunMaker):
    run = make_run(3, overrides=[f"description={json.dumps(PLANTED)}"])
    study = optuna.load_study(study_name=run.name, storage=run.storage_url)
    failed = optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL, user_attrs={"failure": PLANTED})
    study.add_trial(failed)
    clean = page_of(make_run(3, name="clean"))
    found = analyze(run)
    record = found.record.model_copy(update={"name": PLANTED, "command": ("run", PLANTED), "changes": (PLANTED,)})
    page = read(run_page(run, replace(found, record=record)))
    assert len(page.all("script")) == len(clean.all("script"))
    assert page.all("h1")[0].said() == PLANTED
    assert tables(page)["Failed trials"][0][2] == PLANTED
    assert PLANTED in page.all("pre")[-1].said()  # the space's description


def test_the_page_asks_nobody_for_anything(make_run: RunMaker):
    run = finished(make_run)
    page = page_of(run)
    for one in [one for name in ("a", "link", "img", "script", "use", "image") for one in page.all(name)]:
        for name in ("src", "href"):
            assert (one.attributes.get(name) or "#").startswith(("#", "data:"))
    (policy,) = (one for one in page.all("meta") if one.attributes.get("http-equiv") == "Content-Security-Policy")
    assert policy.attributes["content"] == (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
    )


@pytest.mark.parametrize("overrides", [(), ("search.kl_weight.high=1e-2", "budget.quick.set={data.kernel_px: 32}")])
def test_the_space_on_the_page_is_the_one_that_was_searched(make_run: RunMaker, tmp_path, overrides):
    run = make_run(0, overrides=overrides)
    (tmp_path / "space.yaml").write_text(page_of(run).all("pre")[-1].text)
    tree, where = read_space(str(tmp_path / "space.yaml"))
    again = override(tree, [], where, choose_preset(tree, "quick", where)).model_dump(mode="json")
    searched = run.read_record().resolved_study().model_dump(mode="json")
    searched["budget"]["quick"]["set"] = {}  # done already: the override after it has the last word
    assert again == searched


def test_pictures_are_put_in_as_far_as_they_fit(make_run: RunMaker):
    run = finished(make_run)
    for name, size in (("field_errors", 10), ("large", 90), ("history", 5)):
        (run.figures / f"{name}.png").write_bytes(bytes(size))
    (picture,), (line,) = embedded(run.figures, 80)
    assert (picture.title, picture.address) == ("field errors", "data:image/png;base64,AAAAAAAAAAAAAA==")
    assert line.startswith("large.png has no room here")
    assert page_of(run).all("img")[0].attributes["alt"] == "field errors"


@pytest.mark.parametrize(("ratio", "level"), [(True, "not told"), (False, "-")])
def test_effects_that_are_not_told_say_so(make_run: RunMaker, ratio, level):
    run = make_run(4)
    found = analyze(run)
    effect = Effect(
        "learning_rate",
        0.9,
        interval_around(1.6, 0.7),
        None,
        "High",
        [1e-5, 1e-4, 1e-3],
        [interval_around(0.1, 0.02)] * 3,
        [interval_around(0.1, 0.03)] * 3,
    )
    object.__setattr__(found, "sensitivity", Sensitivity(1800, 4, ratio, [effect]))
    shown = tables(read(run_page(run, found)))
    assert shown["Sensitivity"][0][:5] == ["learning_rate", "1.60 [0.90, 2.30]", "0.90", level, "High"]
    chart = effects_chart(found)
    assert chart is not None
    assert shown[chart.title][0][3] == level


def test_several_runs_lie_beside_each_other(make_run: RunMaker, tmp_path):
    one, other = finished(make_run, name="one"), make_run(6, name="other")
    write_report([one, other], tmp_path / "both.html")
    page = read((tmp_path / "both.html").read_text())
    assert anchors(page) == ["overview", "comparison", "progress", "parameters", "runs"]
    rows = tables(page)["Runs"]
    assert [row[0] for row in rows] == ["one", "other"]
    assert rows[0][6] == "rel. L2 0.0200 [0.0188, 0.0212]"
    assert rows[1][6] == "not finished"
    course = tables(page)["Best rel. L2 so far"]
    best = [float(row[2]) for row in course if row[0] == "one"]
    assert best == sorted(best, reverse=True)
    different = make_run(3, name="psnr", overrides=["objective={metric: val/prior_psnr, mode: max}"])
    write_report([one, different], tmp_path / "both.html")
    assert anchors(read((tmp_path / "both.html").read_text())) == ["overview", "parameters", "runs"]


def test_runs_of_one_name_are_told_apart_and_what_failed_is_no_best(make_run: RunMaker, tmp_path):
    one, empty = make_run(12, fail=[3, 5], name="mine"), make_run(0, name="empty")
    copy = RunDirectory(tmp_path / "copies" / "mine")
    shutil.copytree(one.path, copy.path)
    write_report([one, copy, empty], tmp_path / "all.html")
    shown = tables(read((tmp_path / "all.html").read_text()))
    names = [row[0] for row in shown["Runs"]]
    assert len(set(names)) == 3
    course = shown["Best rel. L2 so far"]
    assert {row[0] for row in course} == set(names[:2])
    found = analyze(one)
    able = [trial for trial in found.trials if trial.state != "FAIL" and trial.ended is not None]
    assert len([row for row in course if row[0] == names[0]]) == len(able)
    with pytest.raises(SpaceError, match="given twice"):
        write_report([one, one], tmp_path / "twice.html")


def test_a_best_trial_from_outside_an_edited_range_is_on_the_axis(make_run: RunMaker):
    found = analyze(make_run(24))
    low = found.study.search["learning_rate"].low
    assert isinstance(low, float)
    best = replace(found.ranking[0], params=found.ranking[0].params | {"learning_rate": low / 10})
    page = read("".join(chart.picture for chart in responses(replace(found, ranking=[best]))))
    marks = [one for one in page.all("line") if "best" in (one.attributes["class"] or "")]
    assert len(marks) == len(found.study.search)
    assert all(48 <= float(one.attributes["x1"] or "nan") <= 280 for one in marks)


def test_a_damaged_run_says_so_and_leaves_the_earlier_page(make_run: RunMaker):
    run = make_run(3)
    write_report([run], run.report)
    before = run.report.read_bytes()
    write_json(run.summary, record_of(run.name))
    with pytest.raises(ValueError, match=r"summary\.json: "):
        write_report([run], run.report)
    assert run.report.read_bytes() == before


def luminance(colour: str) -> float:
    """Of #rrggbb, by WCAG 2."""
    shares = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in shares]
    return sum(weight * one for weight, one in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_text_is_told_from_its_ground_in_both_schemes():
    css = (files("results.report") / "report.css").read_text()
    colours = {name: schemes for name, *schemes in re.findall(r"--(\w+): light-dark\((#\w{6}), (#\w{6})\)", css)}
    for text, ground, scheme in product(("ink", "muted", "accent", "best", "reference"), ("paper", "card"), (0, 1)):
        low, high = sorted(luminance(colours[name][scheme]) for name in (text, ground))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground, scheme)


def test_scales_place_values_and_have_round_ticks():
    assert Linear(0, 10).place(2.5) == 0.25
    assert Log(1e-4, 1).place(1e-2) == pytest.approx(0.5)
    assert Choices(("a", "b")).place("b") == 0.75
    assert [label for _, label in Linear(0, 10).ticks()] == ["0", "2", "4", "6", "8", "10"]
    assert [label for _, label in Linear(2, 4, whole=True).ticks()] == ["2", "3", "4"]
    assert [label for _, label in Linear(-0.3, 0.31).ticks()] == ["-0.2", "0", "0.2"]
    assert [label for _, label in Log(1e-5, 1e-3).ticks()] == ["1e-5", "3e-5", "1e-4", "3e-4", "0.001"]
    assert [label for _, label in Log(0.11, 0.14).ticks()] == ["0.11", "0.12", "0.13", "0.14"]
    assert [label for _, label in Log(1e-12, 1e12).ticks()] == ["1e-12", "1e-7", "0.01", "1000", "1e8"]
    for scale in (
        around([0.1, 0.2], log=True),
        around([0.0, 0.2], log=True),
        around([3.0], log=False),
        around([], True),
    ):
        places = [place for place, _ in scale.ticks()]
        assert places == sorted(places)
        assert all(-1e-9 <= place <= 1 + 1e-9 for place in places)
    assert isinstance(around([0.0, 0.2], log=True), Linear)


def test_labels_do_not_overlap_and_attributes_are_escaped():
    assert apart([10.0, 0.0, 3.0], 5.0) == [10.0, 0.0, 5.0]
    assert element("text", "<b>", class_="a", data_trial='"1') == '<text class="a" data-trial="&#34;1">&lt;b&gt;</text>'
