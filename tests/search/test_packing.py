"""How many trials a lane trains at once."""

import pytest

from search.packing import TRIALS_PER_GPU, pack
from spaces.errors import SpaceError
from spaces.loading import load


def test_there_are_no_more_places_than_there_is_memory_for():
    study = load("cvae_psf", ["resources.gpus_per_worker=1"])
    assert [pack(study, 40, 1, room).places for room in (1, 3, 100)] == [1, 3, TRIALS_PER_GPU]
    asked = load("cvae_psf", ["resources.gpus_per_worker=1", "resources.pack=5"])
    assert pack(asked, 40, 1, 1).places == 5  # which is refused where it does not fit


@pytest.mark.parametrize(
    ("resources", "trials", "lanes", "places"),
    [
        ({}, 40, 2, 1),
        ({"gpus_per_worker": 1}, 40, None, TRIALS_PER_GPU),
        ({"gpus_per_worker": 1}, 40, 2, TRIALS_PER_GPU),
        ({"gpus_per_worker": 1}, 10, 4, 3),  # or there would be more places than trials
        ({"gpus_per_worker": 0.25}, 40, 4, TRIALS_PER_GPU // 4),
        ({"gpus_per_worker": 0.01}, 40, 4, 1),
        ({"gpus_per_worker": 1, "workers_per_trial": 2}, 40, 1, 1),
        ({"gpus_per_worker": 1, "compile": True}, 40, 1, 1),
        ({"pack": 4}, 40, 2, 4),
        ({"gpus_per_worker": 1, "pack": 32}, 40, 2, 32),
    ],
)
def test_places_of_a_lane(resources, trials, lanes, places):
    study = load("cvae_psf", [f"resources.{name}={str(value).lower()}" for name, value in resources.items()])
    found = pack(study, trials, lanes)
    assert found.places == places
    assert found.why


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (["resources.pack=0"], ["pack", "auto", "64"]),
        (["resources.pack=65"], ["pack", "auto", "64"]),
        (["resources.pack=many"], ["pack", "auto", "many"]),
        (["resources.pack=true"], ["pack", "auto"]),
        (["resources.pack=4", "resources.workers_per_trial=2"], ["pack", "workers_per_trial"]),
        (["resources.pack=4", "resources.compile=true"], ["pack", "compile"]),
    ],
)
def test_what_cannot_be_is_refused(overrides, names):
    with pytest.raises(SpaceError) as refused:
        load("cvae_psf", overrides)
    assert all(name in str(refused.value) for name in names)
