"""A run opened from Python."""

import pytest

from results import load_model, open_run
from spaces.errors import SpaceError
from tests.results.conftest import RunMaker, summary_of


def test_a_run_that_has_not_ended_says_what_there_is(make_run: RunMaker):
    run = open_run(make_run(12).path)
    assert run.summary is None
    assert run.best.number == run.trials_dataframe()["value"].idxmin()
    with pytest.raises(SpaceError, match="no model yet"):
        run.model()
    run.directory.write_summary(summary_of(run.name))
    assert run.best.number == 2  # the winner of the finals


def test_what_is_no_run_and_no_model_is_refused(tmp_path):
    with pytest.raises(SpaceError, match="no such run"):
        open_run(tmp_path / "none")
    with pytest.raises(SpaceError, match="missing; this is not the directory of an exported model"):
        load_model(tmp_path)
