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
def not_centred(tmp_path_factory):
    """Of a design that says of itself not to be, on a square sensor."""
    return sets(tmp_path_factory.mktemp("units") / "not centred", centred=False)


@pytest.fixture(scope="session")
def at_distances(tmp_path_factory):
    """Sets whose depth and focus vary."""
    nearest = {"depth_mm": -1000.0, "focus_mm": -2000.0}
    return sets(tmp_path_factory.mktemp("units") / "distances", nearest=nearest)


@pytest.fixture(scope="session")
def data(square):
    return AsBuiltTensors.load(square)
