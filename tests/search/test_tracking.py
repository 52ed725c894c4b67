"""Trackers: what they hear of a search, and that a search hears nothing of their troubles."""

import io
import os
import signal
import socket
import sqlite3
import subprocess
from contextlib import closing, contextmanager
from dataclasses import replace
from importlib.util import find_spec

import pytest

from search.cli import main
from search.observer import Observer
from search.tracking import tracker as tracking
from search.tracking.client import serve
from search.tracking.tracker import tracked
from search.tracking.trackers import TRACKERS, check_trackers
from spaces.errors import SpaceError
from spaces.study import Scalar
from tests.results.conftest import summary_of
from tests.search.small import METRIC, run_of, small
from tests.search.test_search import new_run, study_of

PARAMS: dict[str, Scalar] = {"learning_rate": 1e-3, "lr_schedule": "cosine"}


def skip_without(module):
    """As `importorskip`, without the seconds that an import takes."""
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed")


class Said(Observer):
    """Keeps what is said."""

    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


@pytest.fixture
def run(tmp_path):
    """A run with a summary and a model's card."""
    run = run_of(tmp_path / "mine", small())
    run.write_summary(summary_of("mine"))
    run.model.mkdir()
    (run.model / "card.md").write_text("# A model\n")
    return run


def report(observer, number, *steps):
    for step in steps:
        observer.trial_reported(number, step, 1 / step, {METRIC: 1 / step, "val/kl": 2.0})


def search(observer, run):
    """A trial, one that fails, a finalist, the end."""
    observer.trial_started(0, PARAMS)
    observer.trial_started(1, PARAMS)
    report(observer, 0, 200, 600)
    observer.trial_ended(1, "FAIL", 0, None, "no such thing")
    observer.trial_ended(0, "COMPLETE", 600, 1 / 600, None)
    observer.finalist_started(0, 1, PARAMS)
    observer.finalist_reported(0, 1, 400, {METRIC: 1 / 400})
    observer.finalist_ended(0, 1, None)
    observer.search_ended(run)


@pytest.fixture
def patient(monkeypatch):
    """As long as it takes: how long that is on a busy machine is not what is tested."""
    monkeypatch.setattr(tracking, "CLOSING", 300.0)
    monkeypatch.setattr(tracking, "INTERRUPTED", 300.0)


@pytest.fixture
def mlflow_file(tmp_path, monkeypatch):
    skip_without("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "mlflow.db"


def rows(file, query):
    with closing(sqlite3.connect(file)) as database:
        return database.execute(query).fetchall()


@pytest.mark.slow
def test_mlflow_has_a_nested_run_per_training_and_goes_on_with_them(run, mlflow_file, patient):
    said = Said()
    with pytest.raises(KeyboardInterrupt), tracked(["mlflow"], run, said) as observer:  # noqa: PT012
        observer.trial_started(0, PARAMS)
        report(observer, 0, 200)
        raise KeyboardInterrupt
    assert dict(rows(mlflow_file, "select name, status from runs")) == {"mine": "KILLED", "trial 0": "KILLED"}
    with tracked(["mlflow"], run, said) as observer:
        search(observer, run)
    status = {"mine": "FINISHED", "trial 0": "FINISHED", "trial 1": "FAILED", "finalist 0, seed 1": "FINISHED"}
    assert dict(rows(mlflow_file, "select name, status from runs")) == status
    assert not [line for line in said.lines if "warning" in line], said.lines
    ids = {name: id for id, name in rows(mlflow_file, "select run_uuid, name from runs")}
    steps = f"select step, value from metrics where run_uuid = '{ids['trial 0']}' and key = '{METRIC}' order by step"
    assert set(rows(mlflow_file, steps)) == {(200, 1 / 200), (600, 1 / 600)}
    parents = rows(mlflow_file, "select run_uuid, value from tags where key = 'mlflow.parentRunId'")
    assert dict(parents) == {id: ids["mine"] for name, id in ids.items() if name != "mine"}
    final = f"select value from metrics where run_uuid = '{ids['mine']}' and key = 'test/best/prior_rel_l2'"
    assert rows(mlflow_file, final) == [(0.02,)]
    assert [path.name for path in mlflow_file.parent.rglob("artifacts/card.md")] == ["card.md"]


@pytest.mark.slow
def test_wandb_has_a_run_per_training_in_a_group_offline(run, monkeypatch, patient):
    skip_without("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    said = Said()
    for _ in range(2):  # a search that is resumed, and its trials too, has the same runs
        with tracked(["wandb"], run, said) as observer:
            search(observer, run)
    assert not [line for line in said.lines if "warning" in line], said.lines
    files = [path.name for path in run.path.glob("wandb/offline-run-*/run-*.wandb")]
    keys = sorted({name.removesuffix(".wandb").split("-", 2)[2] for name in files})
    assert keys == ["finalist-0-seed-1", "finals", "trial-0", "trial-1"]
    assert len(set(files)) == 4
    stored = b"".join(path.read_bytes() for path in run.path.glob("wandb/offline-run-*/run-*.wandb"))
    for part in (METRIC, "learning_rate", "test/best/prior_rel_l2", "mine-card", "no such thing"):
        assert part.encode() in stored


@contextmanager
def listener():
    """A server that accepts, and never answers; its port, and its first connection once there is one."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(120)
        yield server


def at(port, monkeypatch):
    for name in ("WANDB_BASE_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_server_that_never_answers_costs_reports_alone(run, monkeypatch, name):
    skip_without(name)
    monkeypatch.setattr(tracking, "CLOSING", 0.5)
    said = Said()
    with listener() as server, tracked([name], run, said) as observer:
        at(server.getsockname()[1], monkeypatch)
        observer.trial_started(0, PARAMS)
        accepted, _ = server.accept()  # it waits for an answer from now on
        report(observer, 0, *range(1, 20_000))
        observer.trial_ended(0, "COMPLETE", 600, 1 / 600, None)
    accepted.close()
    (line,) = said.lines
    assert "reports found its queue full" in line
    assert "it was too slow" in line
    assert not [pid for pid in os.listdir("/proc") if pid.isdigit() and mentions(pid, str(os.getpid()), name)]


def mentions(pid, parent, name):
    """Whether a process of this session, or what is left of it, is a tracker's."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            line = file.read().decode(errors="replace").split("\0")
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[1] == parent and "search.tracking.client" in line
    except OSError:
        return False


@pytest.mark.parametrize(
    ("names", "environment", "says"),
    [
        (["wandbb"], {}, "did you mean 'wandb'"),
        (["mlflow"], {"MLFLOW_TRACKING_URI": "file:///tmp/mlruns"}, "no store of files any more; use sqlite:///"),
        (["mlflow"], {"MLFLOW_TRACKING_URI": "mlruns"}, "no store of files any more"),
    ],
)
def test_what_cannot_be_is_told_before_anything_starts(monkeypatch, names, environment, says):
    skip_without("mlflow")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SpaceError, match=says):
        check_trackers(names)


def test_a_tracker_that_is_not_installed_is_one_line_before_ray(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(TRACKERS, "wandb", replace(TRACKERS["wandb"], module="no_such_module_of_wandb"))
    with pytest.raises(SystemExit) as end:
        main(["run", "--space", "cvae_psf", "--track", "wandb", "--out", str(tmp_path / "runs")])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--track wandb: Weights & Biases is not installed; pip install 'psf-search[wandb]'" in error
    assert not (tmp_path / "runs").exists()


class Refuses:
    """A tracker whose server is not there."""

    def search(self, id, name, directory, config):
        return "run mine at http://me:se@cret@host/api"

    def begin(self, key, name, kind, params):
        raise ConnectionError("API request to https://me:secret@host/api failed")

    def report(self, key, step, metrics): ...
    def end(self, key, state, told): ...
    def finals(self, metrics, told, files): ...
    def close(self): ...


def test_passwords_in_addresses_are_not_said():
    messages = io.StringIO(
        '{"do": "search", "id": "1", "name": "mine", "directory": "", "config": {}}\n{"do": "begin", "key": "trial-0", "name": "", "kind": "", "params": {}}\n'
    )
    answers = io.StringIO()
    serve(Refuses(), messages, answers)
    assert answers.getvalue() == "run mine at http://host/api\nwarning: API request to https://host/api failed\n"


def test_a_tracker_that_fails_at_once_is_said_and_the_search_goes_on(run, monkeypatch, patient):
    monkeypatch.setitem(os.environ, "PYTHONPATH", str(run.path))  # a module of that name that cannot be imported
    (run.path / "wandb.py").write_text("raise ImportError('half installed')\n")
    said = Said()
    with tracked(["wandb"], run, said) as observer:
        search(observer, run)
    first, second = said.lines
    assert first == "wandb: warning: cannot be imported: half installed; the search goes on without it"
    assert "messages are missing: it failed" in second


@pytest.mark.slow
@pytest.mark.parametrize("signalled", [False, True])
def test_a_search_with_a_silent_tracker_is_the_same_search(tmp_path, monkeypatch, signalled):
    skip_without("mlflow")
    alike = ("sampler=random", "scheduler=none", "budget.quick.finalists=1", "budget.quick.finalist_seeds=1")
    with listener() as server:
        at(server.getsockname()[1], monkeypatch)
        options = ["--track", "mlflow"]
        tracked_run = subprocess.Popen([*new_run(tmp_path, "tracked", *alike, trials=2), *options], cwd=tmp_path)
        if signalled:
            server.accept()[0].settimeout(1)
            tracked_run.send_signal(signal.SIGINT)
        assert tracked_run.wait(500) == (130 if signalled else 0)
    if not signalled:
        assert subprocess.run(new_run(tmp_path, "plain", *alike, trials=2), cwd=tmp_path, check=False).returncode == 0
        plain, found = (study_of(tmp_path, name).trials for name in ("plain", "tracked"))
        assert [one.params for one in plain] == [one.params for one in found]
        assert [one.intermediate_values for one in plain] == [one.intermediate_values for one in found]
