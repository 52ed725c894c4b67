"""Which positions of the field are shown."""

import numpy as np

from deeplens_workers.field import centre_to_corner


def test_positions_run_from_the_centre_to_the_corner():
    points = np.random.default_rng(1).uniform(-1, 1, (500, 3))
    chosen = centre_to_corner(points, 6)
    assert len(set(chosen.tolist())) == 6
    along = points[chosen, :2]
    assert np.abs(along[0]).max() < 0.1
    assert along[-1].min() > 0.85
    assert (np.diff(along.sum(axis=1)) > 0).all()
    assert len(set(centre_to_corner(points[:6], 6).tolist())) == 6  # never the same one twice
    assert sorted(centre_to_corner(points[:4], 6).tolist()) == [0, 1, 2, 3]
