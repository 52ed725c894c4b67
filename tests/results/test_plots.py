"""Figures: the numbers behind them, and that they can be drawn."""

from __future__ import annotations

import io

import numpy as np
import pytest

from results.plots import history, history_figure
from results.records import read_trials
from tests.results.conftest import RunMaker


def drawn(figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, dpi=50)
    return file.getvalue()


@pytest.mark.parametrize("trials", [0, 1, 12])
def test_the_history_can_be_drawn(make_run: RunMaker, trials):
    records = read_trials(make_run(trials))
    curves = history(records)
    assert [curve.number for curve in curves] == list(range(trials))
    assert all((np.diff(curve.steps) > 0).all() for curve in curves)
    figure = history_figure(records, metric="val/prior_rel_l2", mode="min", rungs=[200, 600], baselines={"RBF": 0.01})
    assert drawn(figure).startswith(b"\x89PNG")
