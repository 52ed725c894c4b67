"""`psf-search figures` of a search that goes on."""

from __future__ import annotations

import pytest

from search.cli import main
from tests.results.conftest import make_run  # noqa: F401  # a fixture


def test_what_is_not_there_yet_says_why(make_run, tmp_path, capsys):  # noqa: F811
    run = make_run(3, name="going")
    for name, why in (("comparison", "the search has not ended"), ("sensitivity", "too few trials")):
        with pytest.raises(SystemExit) as ended:
            main(["figures", str(run.path), "--only", name, "--out", str(tmp_path / "figures")])
        assert ended.value.code == 1
        assert f"--only {name}: run going: {why}" in capsys.readouterr().err
