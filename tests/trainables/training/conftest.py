"""Fixtures of small trainings."""

import math
from pathlib import Path

import pytest

from tests.trainables.psf.synthetic import tensors
from trainables.psf.data import PsfTensors
from trainables.training import saving


@pytest.fixture
def data(tmp_path: Path) -> PsfTensors:
    return tensors(tmp_path / "data")


@pytest.fixture
def saved_at_every_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "SHARE", math.inf)
