"""What a piped search prints."""

import io

import pytest
from rich.console import Console

from search.display import Display
from spaces.loading import load


def test_plain_lines_tell_the_course_of_a_search():
    study = load("cvae_psf")
    out = io.StringIO()
    budget = study.budget["quick"].model_copy(update={"trials": 18})
    with Display(study, budget=budget, console=Console(file=out, width=200)) as display:
        display.prepared(1, 2, "9 PSFs/s")
        display.search_started(ended_before=0, lanes=2)
        display.trial_started(0, study.recommended())
        display.trial_reported(0, 200, 0.5, {})
        display.trial_ended(0, "COMPLETE", 1800, 0.4, None)
        display.trial_started(1, study.recommended())
        display.trial_ended(1, "FAIL", 0, None, "train/loss is nan by step 50")
        display.lanes_changed("lane-2 joins: there is room for it", 3)
    lines = out.getvalue().splitlines()
    assert lines[0] == "rendering PSFs: 50 %"
    assert lines[1] == "searching: 18 trials of up to 1800 steps on 2 lanes"
    assert lines[2].startswith(
        "[1/18] trial 0 complete at step 1800/1800, val/prior_rel_l2 0.4; best 0.4 (trial 0), about"
    )
    assert "trial 1 failed at step 0/1800 (train/loss is nan by step 50)" in lines[3]
    assert lines[4] == "lane-2 joins: there is room for it"


def test_the_live_table_shows_running_and_ended_trials():
    study = load("cvae_psf")
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with Display(study, budget=study.budget["quick"], console=console) as display:
        display.search_started(ended_before=0, lanes=2)
        display.trial_started(0, study.recommended())
        display.trial_ended(0, "COMPLETE", 1800, 0.4, None)
        display.trial_started(1, study.recommended())
        display.trial_reported(1, 200, 0.7, {})
        console.begin_capture()
        console.print(display._picture())
        shown = console.end_capture()
    assert "complete (best)" in shown
    assert "200/1800" in shown
    assert "1/2 lanes busy" in shown


def test_a_resumed_search_knows_its_best_trial():
    study, out = load("cvae_psf"), io.StringIO()
    with Display(study, budget=study.budget["quick"], console=Console(file=out, width=200)) as display:
        display.search_started(ended_before=3, lanes=1, complete={0: 0.5, 2: 0.1})
        display.trial_started(3, study.recommended())
        display.trial_ended(3, "COMPLETE", 1800, 0.4, None)
    assert "; best 0.1 (trial 2), about" in out.getvalue()


@pytest.mark.parametrize(("finalists", "left"), [(0, "about 17 s left"), (2, "about 10 min left")])
def test_the_time_left_holds_the_finals_and_passes(monkeypatch, finalists, left):
    study, clock = load("cvae_psf"), [1000.0]
    monkeypatch.setattr("search.display.time.monotonic", lambda: clock[0])
    budget = study.budget["quick"].model_copy(update={"trials": 2, "finalists": finalists, "finalist_seeds": 18})
    with Display(study, budget=budget, console=Console(file=io.StringIO())) as display:
        display.search_started(ended_before=0, lanes=1)
        display.trial_started(0, study.recommended())
        clock[0] += 30.0  # 60 steps a second
        display.trial_ended(0, "COMPLETE", 1800, 0.4, None)
        assert display._time_left() == left
        display.trial_started(1, study.recommended())
        clock[0] += 30.0
        display.trial_ended(1, "COMPLETE", 1800, 0.4, None)
        clock[0] += 9 * 60.0 if finalists else 0.0
        assert display._time_left() == f"about {30 if finalists else 0} s left"


def test_forty_columns_cut_no_number_and_no_path():
    study = load("cvae_psf")
    out = io.StringIO()
    console = Console(file=out, width=40, force_terminal=True, color_system=None)
    with Display(study, budget=study.budget["quick"], console=console) as display:
        display.search_started(ended_before=0, lanes=2)
        for number in range(2):
            display.trial_started(number, study.recommended())
        display.trial_ended(0, "FAIL", 1200, 0.43219, "train/loss is nan by step 1250")
        display.trial_reported(1, 1400, 0.71234, {})
        console.begin_capture()
        console.print(display._picture())
        shown = console.end_capture()
        path = "/a/long/path/" + "x" * 60
        console.begin_capture()
        display.say(f"model {path}")
        said = console.end_capture()
    assert "…" not in shown
    assert max(len(line) for line in shown.splitlines()) <= 40
    for whole in ("0.4322", "0.7123", "running"):
        assert whole in shown
    assert path in said
