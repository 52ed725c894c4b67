"""The card says what a model was trained on."""

import pytest

from tests.trainables.psf.meridional import meridional
from trainables.psf.card import psf_card


@pytest.mark.parametrize(
    ("changes", "on_grid"),
    [
        ({}, False),
        ({"frame": "sensor", "train_points": 5}, False),
        ({"frame": "sensor", "train_points": 0}, True),
        ({"train_points": 0, "stream": {"kernels": 10}}, False),
    ],
)
def test_random_training_points_are_not_called_a_grid(changes, on_grid):
    data, _ = meridional(**changes)
    assert ("3 x 3" in psf_card(data, "a lens").intro) == on_grid
