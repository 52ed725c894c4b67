"""Ray Tune experiments of others: read as text, nothing of them is run, nothing is changed."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from results.foreign import PICKLED, read_experiment
from results.foreign_files import is_experiment
from results.foreign_tables import foreign_as_dict, foreign_rows, foreign_tables
from spaces.errors import SpaceError
from tests.results.test_tables import drawn


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._mark),)


def blob(mark: Path) -> dict[str, str]:
    """A pickle as Tune puts it into JSON."""
    return {"_type": "CLOUDPICKLE_FALLBACK", "value": pickle.dumps(Trap(mark)).hex()}


def lines(*reports: dict[str, Any]) -> str:
    return "".join(json.dumps(report) + "\n" for report in reports)


def report(iteration: int, **metrics: Any) -> dict[str, Any]:
    return {**metrics, "training_iteration": iteration, "time_total_s": 2.0 * iteration, "pid": 7, "done": False}


def entry(id: str, status: str, **told: Any) -> list[str]:
    return [json.dumps({"trial_id": id, "status": status, "relative_logdir": f"train_{id}", **told}), json.dumps({})]


@pytest.fixture
def mark(tmp_path):
    return tmp_path / "unpickled"


@pytest.fixture
def experiment(tmp_path, mark):
    """Four trials: one ended, one failed, one that never reported, one that runs; booby-trapped all over."""
    root = tmp_path / "mine"
    trap = blob(mark)
    config = {"lr": 0.1, "net": {"width": 8, "act": trap}, "word": "a\x1b[31mb"}
    state = {
        "trial_data": [
            entry("aaa", "TERMINATED", config=config, storage=trap),
            entry("bbb", "ERROR", config={"lr": 0.2}),
            entry("ccc", "PENDING", config=trap),
            entry("ddd", "RUNNING", config={"lr": 0.3, "word": "b"}),
        ],
        "runner_data": {"_metric": "loss", "_stopper": trap},
    }
    files = {
        "experiment_state-2026-01-01_00-00-00.json": "{}",
        "experiment_state-2026-01-02_00-00-00.json": json.dumps(state),
        "train_aaa/params.json": json.dumps(config),
        "train_aaa/result.json": lines(
            report(1, loss=0.5, inner={"acc": 0.1}), report(2, loss=0.25), report(3, loss=0.3)
        ),
        "train_bbb/result.json": lines(report(1, loss=float("nan"))) + '{"loss": 0.0001, "training_iter',
        "train_bbb/error.txt": "Traceback (most recent call last):\n  File x\nValueError: too \x1b]0;wide\x07\n",
        "train_ddd/progress.csv": "loss,training_iteration,done\n0.9,1,False\ninf,2,False\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "train_ccc").mkdir()
    for name in ("tuner.pkl", "trainable.pkl", "searcher-state-1.pkl", "train_aaa/params.pkl", "train_bbb/error.pkl"):
        (root / name).write_bytes(pickle.dumps(Trap(mark)))
    return root


def content(root):
    """Every file and folder: bytes, and times of change."""
    return {
        path: (path.stat().st_mtime_ns, path.stat().st_mode, path.read_bytes() if path.is_file() else None)
        for path in [root, *root.rglob("*")]
    }


def test_nothing_is_run_and_nothing_is_changed(experiment, mark):
    before = content(experiment)
    found = read_experiment(experiment, "loss", "min")
    drawn(foreign_tables(found))
    json.dumps(foreign_as_dict(found), allow_nan=False)
    foreign_rows(found)
    assert content(experiment) == before
    assert not mark.exists()
    pickle.loads((experiment / "tuner.pkl").read_bytes())
    assert mark.is_dir()  # the trap works


def test_what_it_says(experiment):
    found = read_experiment(experiment, mode="min")
    assert (found.metric, found.metrics) == ("loss", ("loss",))
    a, b, c, d = found.trials
    assert [trial.record.state for trial in found.trials] == ["COMPLETE", "FAIL", "WAITING", "RUNNING"]
    assert a.record.params == {"lr": 0.1, "net/width": 8, "net/act": PICKLED, "word": "a?[31mb"}
    assert a.record.history == ((1, 0.5), (2, 0.25), (3, 0.3))
    assert (a.record.best("min"), a.record.step, a.record.seconds) == ((2, 0.25), 3, 6.0)
    assert (b.error_file, b.record.failure) == ("train_bbb/error.txt", "ValueError: too ?]0;wide?")
    assert b.record.best("min") is None
    assert (c.record.params, c.record.history, c.record.metrics) == ({}, (), {})
    assert d.record.best("min") == (1, 0.9)
    machine = json.loads(json.dumps(foreign_as_dict(found), allow_nan=False))
    assert [trial["id"] for trial in machine["trials"]] == ["aaa", "ddd", "bbb", "ccc"]
    assert machine["trials"][1]["last_value"] is None  # infinite
    assert [row["value"] for row in foreign_rows(found)] == [0.25, None, None, 0.9]


def test_what_is_cut_off_is_said_in_one_line(experiment):
    found = read_experiment(experiment)
    assert found.notes == (f"{experiment}/train_bbb/result.json: its last line is cut off; read without it",)
    text = drawn(foreign_tables(found))
    assert "ranks the trials" in text
    assert "last line is cut off" in " ".join(text.split())


def test_a_broken_line_and_a_broken_state_are_left_out(experiment):
    (experiment / "experiment_state-2026-01-03_00-00-00.json").write_text('{"trial_data": [[')
    with (experiment / "train_aaa" / "result.json").open("a") as file:
        file.write("[1]\nno json\n" + "[" * 100_000 + "\n" + lines(report(4, loss=0.2)))
    found = read_experiment(experiment, "loss", "min")
    assert found.trials[0].record.best("min") == (4, 0.2)
    assert found.trials[0].record.state == "COMPLETE"  # of the state before
    assert len(found.notes) == 3
    assert "line 4 and 2 more" in found.notes[1]


@pytest.mark.parametrize("state", [None, "{}", '{"trial_data": [7, ["x"], [null], []]}', '{"checkpoints": "none"}'])
def test_without_a_state_the_folders_speak(experiment, state):
    for file in experiment.glob("experiment_state*"):
        file.unlink()
    if state is not None:
        (experiment / "experiment_state-1.json").write_text(state)
    assert is_experiment(experiment)
    found = read_experiment(experiment)
    assert found.metric is None
    assert [trial.folder for trial in found.trials] == ["train_aaa", "train_bbb", "train_ddd"]
    assert [trial.record.state for trial in found.trials] == ["RUNNING", "FAIL", "RUNNING"]
    assert found.trials[0].record.params["lr"] == 0.1
    assert "--metric NAME" in drawn(foreign_tables(found))


def test_a_state_of_an_old_ray_is_a_list_of_texts(tmp_path):
    told = {"trial_id": "old", "status": "TERMINATED", "config": {"x": 1}, "logdir": "/elsewhere/mine/train_old"}
    last = {"last_result": {"loss": 2.0, "training_iteration": 5, "huge": 10**400}}
    (tmp_path / "experiment_state-1.json").write_text(json.dumps({"checkpoints": [json.dumps(told | last)]}))
    (trial,) = read_experiment(tmp_path, "loss", "min").trials
    assert (trial.id, trial.folder) == ("old", "train_old")
    assert (trial.record.state, trial.record.step, trial.record.metrics) == ("COMPLETE", 5, {"loss": 2.0})


def test_nothing_outside_of_the_directory_is_read(experiment, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "result.json").write_text(lines(report(1, loss=0.0)))
    (experiment / "linked").symlink_to(outside)
    state = {"trial_data": [entry("eee", "TERMINATED", relative_logdir="../outside")]}
    (experiment / "experiment_state-2026-01-03_00-00-00.json").write_text(json.dumps(state))
    found = read_experiment(experiment)
    assert [trial.record.history for trial in found.trials if trial.folder in ("outside", "linked")] == [()]


def test_an_unknown_metric_is_told_with_the_nearest(experiment):
    with pytest.raises(SpaceError, match="did you mean 'loss'"):
        read_experiment(experiment, "los")


def test_names_that_steer_a_terminal_or_that_no_file_has_are_text(tmp_path):
    (tmp_path / "train_aaa").mkdir()
    (tmp_path / "train_aaa/result.json").write_text(lines({"lo\x1bss": 0.5, "training_iteration": 7, "step": 900}))
    entries = [entry("aaa", "TERMINATED"), entry("bbb", "PENDING", relative_logdir="\x1b" + "b" * 300)]
    state = {"trial_data": entries, "runner_data": {"_metric": "lo\x1bss"}}
    (tmp_path / "experiment_state-1.json").write_text(json.dumps(state))
    found = read_experiment(tmp_path)
    assert "\x1b" not in drawn(foreign_tables(found), 120)
    assert found.metric == "lo?ss"
    assert [trial.record.history for trial in found.trials] == [((7, 0.5),), ()]
    row, _ = foreign_rows(found)
    assert (row["step"], row["metrics_step"]) == (7, 900)


def test_what_is_nested_without_end_ends(tmp_path):
    deep = '{"x": ' * 300 + "[" * 300 + "]" * 300 + "}" * 300
    (tmp_path / "trial").mkdir()
    (tmp_path / "trial" / "params.json").write_text('{"lr": 1, "deep": ' + deep + "}")
    (tmp_path / "trial" / "result.json").write_text('{"loss": 1, "deep": ' + deep + "}\n")
    (trial,) = read_experiment(tmp_path, "loss", "min").trials
    assert trial.record.params["lr"] == 1
    assert trial.record.metrics == {"loss": 1.0}


@pytest.mark.slow
def test_an_experiment_that_ray_tune_made(ray_session, tmp_path):
    from ray import tune

    def trainable(config):
        for iteration in range(1, 4):
            if config["x"] == 2:
                raise ValueError("x must not be 2")
            tune.report({"loss": (config["x"] - 1) ** 2 + 1 / iteration, "inner": {"nothing": float("nan")}})

    tune.Tuner(
        trainable,
        param_space={"x": tune.grid_search([0, 1, 2]), "net": {"width": 8}},
        tune_config=tune.TuneConfig(metric="loss", mode="min"),
        run_config=tune.RunConfig(name="mine", storage_path=str(tmp_path), verbose=0),
    ).fit()
    before = content(tmp_path / "mine")
    found = read_experiment(tmp_path / "mine", mode="min")
    by_x = {trial.record.params["x"]: trial for trial in found.trials}
    assert found.metric == "loss"
    assert [step for step, _ in by_x[1].record.history] == [1, 2, 3]
    assert [value for _, value in by_x[1].record.history] == pytest.approx([1, 1 / 2, 1 / 3])
    assert by_x[0].record.params["net/width"] == 8
    assert (by_x[2].record.state, by_x[0].record.state) == ("FAIL", "COMPLETE")
    assert "x must not be 2" in str(by_x[2].record.failure)
    assert (tmp_path / "mine" / str(by_x[2].error_file)).is_file()
    assert "x must not be 2" in drawn(foreign_tables(found))
    assert not found.notes
    assert content(tmp_path / "mine") == before
