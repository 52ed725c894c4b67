from __future__ import annotations

import pytest

from tests.trainables.asbuilt.synthetic import sets
from trainables.asbuilt.data import AsBuiltTensors


@pytest.fixture(scope="session")
def square(tmp_path_factory):
    return sets(tmp_path_factory.mktemp("units") / "square")


@pytest.fixture(scope="session")
def oblong(tmp_path_factory):
    return sets(tmp_path_factory.mktemp("units") / "oblong", aspect=0.5)


@pytest.fixture(scope="session")
def data(square):
    return AsBuiltTensors.load(square)
