"""A run of the version before systems had names: its files as that version wrote them, without the models."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from deeplens_workers.psf_data import PsfData
from results.analysis import analyze
from results.records import read_trials
from results.run import open_run
from results.run_directory import RunDirectory, RunError
from results.tables import analysis_as_dict
from search import plan
from spaces.errors import SpaceError
from trainables.training.checkpoints import Checkpoint, _digest, load_checkpoint, save_checkpoint

FILES = Path(__file__).with_name("older")


@pytest.fixture
def run(tmp_path):
    """Also copied elsewhere."""
    directory = tmp_path / "moved"
    directory.mkdir()
    for name in ("run.json", "summary.json"):
        shutil.copy(FILES / name, directory)
    with closing(sqlite3.connect(directory / "study.db")) as database:
        database.executescript((FILES / "study.sql").read_text())
    return RunDirectory(directory)


def test_it_is_read_as_one_of_today(run):
    told = analysis_as_dict(analyze(run))
    assert told["finished"]
    assert len(told["trials"]) == len(read_trials(run)) == 6
    summary = run.read_summary()
    assert "reference" in summary.test
    assert summary.prepared == {"rays traced": 14400}
    assert all(one.rival and one.seconds > 0 for one in summary.final.finalists)
    assert len(open_run(run.path).trials_dataframe()) == 6


def test_it_is_resumed_unless_its_data_would_be_made_otherwise(run):
    content = json.loads(run.record.read_text())
    study = run.read_record().resolved_study()
    preparation = study.system.make_preparation()
    today = preparation.find(study.data)
    content["lens"]["sha256"] = today.sha256
    run.record.write_text(json.dumps(content))
    with pytest.raises(SpaceError, match="--warm-start moved") as caught:
        plan.resumed("moved", run.path.parent, [])
    assert "\n" not in str(caught.value)
    data = preparation.resolved(study.data, today)
    content["data"] = {
        name: str(place) for name, place in preparation.places(data, today, study.seed, run.path).items()
    }
    run.record.write_text(json.dumps(content))
    job = plan.resumed("moved", run.path.parent, ["budget.quick.trials=9"])
    assert job.budget.trials == 9
    assert isinstance(job.study.data, PsfData)
    assert job.study.data.lens_facts is not None
    assert job.study.data.lens_facts.focal_length_mm == pytest.approx(50.02, rel=1e-3)


def test_its_checkpoints_load(tmp_path):
    torch = pytest.importorskip("torch")
    save_checkpoint(tmp_path, "last", Checkpoint(4, {"x": 1.0}, 1.0, 4, "cvae_psf", {}, {"a": torch.ones(2)}))
    path = tmp_path / "last-00000004.json"
    record = {
        name: value
        for name, value in json.loads(path.read_text()).items()
        if name not in ("system", "system_version", "sha256")
    }
    record["sha256"] = _digest(record, path.with_suffix(".safetensors").read_bytes())
    path.write_text(json.dumps(record))
    loaded = load_checkpoint(tmp_path, "last")
    assert loaded is not None
    assert (loaded.system, loaded.step) == ("cvae_psf", 4)


@pytest.mark.parametrize("where", ["record", "study"])
def test_what_no_longer_fits_names_the_version_that_wrote_it(run, where):
    content = json.loads(run.record.read_text())
    (content if where == "record" else content["study"])["gone"] = 1
    run.record.write_text(json.dumps(content))
    with pytest.raises(RunError, match=r"psf-search 0\.1\.0") as caught:
        run.read_record().resolved_study()
    assert "gone" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_json_and_no_mapping_are_damaged(run):
    for text in ("{", "[]", "null", '{"study": 1}'):
        run.record.write_text(text)
        with pytest.raises(RunError, match=r"run\.json: damaged or of another version"):
            run.read_record()
