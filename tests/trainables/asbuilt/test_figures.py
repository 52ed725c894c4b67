"""Pictures of units, drawn from a network that was trained for a few steps."""

from __future__ import annotations

import numpy as np
from matplotlib.image import imread

from deeplens_workers.asbuilt_data import OBSERVED
from results.plots import save
from tests.trainables.asbuilt.test_learner import LEARNER, trained
from trainables.asbuilt.evaluation import GIVEN, name_of


def test_all_pictures_of_a_run_are_drawn(data, square, tmp_path):
    network, _ = trained(data, 20)
    test = LEARNER.open_test(square)
    random = np.random.default_rng(0)
    every = {name_of(count): random.uniform(0.1, 0.5, (2, 6)) for count in OBSERVED}
    errors = {"best": every, "nominal": every, "fitted": {name_of(GIVEN): np.full((1, 2), 0.05)}}
    save({**LEARNER.figures(network, test), **LEARNER.comparison_figures(errors)}, tmp_path)
    drawn = sorted(path.name for path in tmp_path.glob("*.png"))
    assert drawn == ["errors.png", "population.png", "samples.png", "unit.png"]
    assert all(imread(tmp_path / name)[..., :3].std() > 0.01 for name in drawn)
