"""`psf-search analyze` of one run, of several, of a foreign experiment, of neither."""

import csv
import json

import pytest

from search.cli import main
from search.tune_command import main as tune_main
from tests.search.small import run_of, small


@pytest.fixture
def runs(tmp_path):
    """Directories of two runs that differ in their seed, and of a foreign experiment."""
    for name, seed in (("one", 0), ("two", 1)):
        run_of(tmp_path / name, small(seed=seed), trials=2)
    folder = tmp_path / "theirs" / "trial"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text('{"loss": 0.5, "training_iteration": 1}\n')
    return tmp_path


def analyzed(runs, *arguments):
    try:
        main(["analyze", *arguments, "--out", str(runs)])
    except SystemExit as end:
        return end.code
    return 0


def test_one_several_and_foreign(runs, capsys):
    for arguments, key in ((["one"], "run"), (["one", "two"], "differences"), (["theirs"], "experiment")):
        assert analyzed(runs, *arguments) == 0
        assert "theirs" in (text := capsys.readouterr().out) or "one" in text
        assert analyzed(runs, *arguments, "--json", "--csv", str(runs / "trials.csv")) == 0
        assert key in json.loads(capsys.readouterr().out)
        with (runs / "trials.csv").open() as file:
            assert len(list(csv.DictReader(file))) == {"run": 2, "differences": 4, "experiment": 1}[key]


@pytest.mark.parametrize("names", [["one"], ["one", "two"]])
def test_a_page_of_one_or_of_several(runs, names):
    assert analyzed(runs, *names, "--html", str(runs / "page.html")) == 0
    page = (runs / "page.html").read_text()
    assert all(name in page for name in names)


def test_tune_analyze_is_the_same(runs, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["tune", "analyze", str(runs / "one"), str(runs / "two"), "--json"])
    with pytest.raises(SystemExit) as end:
        tune_main()
    assert not end.value.code
    assert json.loads(capsys.readouterr().out)["differences"]["seed"] == {"one": 0, "two": 1}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["onn"], "did you mean 'one'"),
        (["one", "theirs"], "it is analyzed alone"),
        (["one", "--metric", "loss"], "--metric: goes with a Ray Tune experiment"),
        (["theirs", "--metric", "lose"], "did you mean 'loss'"),
        (["theirs", "--mode", "min"], "of which metric? give --metric; valid: loss"),
        (["theirs", "--mode", "least"], "--mode"),
        (["one", "--csv", "trials.txt"], "--csv: expected a file ending in .csv"),
        (["one", "one"], "given twice"),
        (["one", "--html", "page.htm"], "--html: expected a file ending in .html"),
        (["theirs", "--html", "page.html"], "--html page.html: "),
    ],
)
def test_bad_input_is_one_line(runs, capsys, arguments, says):
    assert analyzed(runs, *arguments) == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_a_directory_of_neither(runs, capsys):
    (runs / "neither").mkdir()
    assert analyzed(runs, str(runs / "neither")) == 2
    assert "neither a run (no run.json) nor a Ray Tune experiment" in capsys.readouterr().err
